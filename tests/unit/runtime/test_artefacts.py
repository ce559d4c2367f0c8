"""Artefacts are whole or absent, equal content gives equal bytes, and damage is noticed."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from knowshift.runtime.artefacts import _remove_abandoned, read_manifest, whole_directory, whole_file, write_text
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_foreign_table, read_table, write_table

SCRIPTS = Path(__file__).parents[3] / "scripts"
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


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine/raw").mkdir(parents=True)
    (tmp_path / "mine/raw/notes.txt").write_text("mine")
    with (
        pytest.raises(KnowshiftError, match=r"mine holds 1 files .*raw/notes.txt"),
        whole_directory(tmp_path / "mine", {}),
    ):
        pass
    (tmp_path / "mine/manifest.json").write_text('{"files": {}}')
    with pytest.raises(KnowshiftError, match="not replaced"), whole_directory(tmp_path / "mine", {}):
        pass
    assert (tmp_path / "mine/raw/notes.txt").read_text() == "mine"
    with pytest.raises(KnowshiftError, match="is a file"), whole_directory(tmp_path / "mine/raw/notes.txt", {}):
        pass


@pytest.mark.parametrize("output", ["w", "w/base", "w/base/inside"])
def test_an_input_is_never_written_over(tmp_path: Path, output: str) -> None:
    with whole_directory(tmp_path / "w/base", {}) as directory:
        (directory / "weights").write_text("kept")
    with (
        pytest.raises(KnowshiftError, match="is, holds or lies in"),
        whole_directory(tmp_path / output, {}, [tmp_path / "w/base"]),
    ):
        pass
    assert (tmp_path / "w/base/weights").read_text() == "kept"


@pytest.mark.parametrize("removed", [(), ("manifest.json",), ("manifest.json", "sub/file")])
def test_what_was_written_here_is_replaced_also_without_its_manifest(tmp_path: Path, removed: tuple[str, ...]) -> None:
    for text in ("first", "second"):
        with whole_directory(tmp_path / "folder", {}) as directory:
            (directory / "sub").mkdir()
            (directory / "sub/file").write_text(text)
        for name in removed if text == "first" else ():
            (tmp_path / "folder" / name).unlink()
    assert (tmp_path / "folder/sub/file").read_text() == "second"
    (tmp_path / "folder/sub/other").write_text("mine")
    with pytest.raises(KnowshiftError, match="sub/other"), whole_directory(tmp_path / "folder", {}):
        pass


def test_what_killed_writers_left_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    kill = "import os, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from knowshift.runtime.artefacts"
    kill += " import whole_file, whole_directory; f = whole_directory(Path(sys.argv[2]), {}) if sys.argv[2][-1] == 'd'"
    kill += " else whole_file(Path(sys.argv[2])); f.__enter__(); os.kill(os.getpid(), 9)"
    for name in ("d", "file"):
        subprocess.run([sys.executable, "-c", kill, str(SCRIPTS), str(tmp_path / name)], check=False)
    left = sorted(tmp_path.glob(".*.partial"))
    assert len(left) == 2
    old = time.time() - 3600
    for path in left:
        os.utime(path, (old, old))
    with whole_file(tmp_path / "file") as mine, whole_directory(tmp_path / "d", {}) as folder:
        assert sorted(tmp_path.glob(".*.partial")) == sorted([mine, folder])
        os.utime(mine, (old, old))
        with whole_file(tmp_path / "file.other"):
            assert mine.exists()
        _remove_abandoned(tmp_path / "file")
        assert mine.exists()  # it is locked
        mine.touch()
    assert not list(tmp_path.glob(".*.partial"))


def test_a_link_stays_and_what_it_leads_to_is_made(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk/large")
    for text in ("one", "two"):
        with whole_directory(tmp_path / "out", {}) as directory:
            (directory / "file").write_text(text)
        assert (tmp_path / "out").is_symlink() and (tmp_path / "disk/large/file").read_text() == text
        assert read_manifest(tmp_path / "out")["files"].keys() == {"file"}
    (tmp_path / "disk/large/mine").write_text("x")
    with pytest.raises(KnowshiftError, match="were not written here"), whole_directory(tmp_path / "out", {}):
        pass
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == [".large.files", "large"]


def test_files_of_others_that_are_named_alike_stay(tmp_path: Path) -> None:
    names = [".file.backup.partial", ".file.1.2.partial", "file.1.partial", ".files.1.partial", ".file.1.partial.old"]
    for name in [*names, ".file.1.partial"]:
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (0, 0))
    write_text(tmp_path / "file", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "file"])


SHA = "0" * 64
MANIFESTS = [
    (b"", "empty; rebuild"),
    (b"\xff", "not UTF-8"),
    (b"[" * 100_000, "nested too deeply"),
    (b"9" * 5000, "a number of thousands of digits"),
    (b"[]", "holds no JSON object"),
    (b"{}", "names no files"),
    (b'{"files": []}', "names no files"),
    (b'{"files": {"f": 3}}', "has no size and sha256 of 'f'"),
    (b'{"files": {"f": {}}}', "has no size and sha256 of 'f'"),
    (b'{"files": {"f": {"bytes": "1", "sha256": "%s"}}}' % SHA.encode(), "has no size and sha256 of 'f'"),
    (b'{"files": {"f": {"bytes": 1, "sha256": null}}}', "has no size and sha256 of 'f'"),
    (b'{"files": {"../f": {"bytes": 1, "sha256": "%s"}}}' % SHA.encode(), "lies outside"),
    (b'{"files": {"/etc/passwd": {"bytes": 1, "sha256": "%s"}}}' % SHA.encode(), "lies outside"),
    (b'{"files": {"a\\u0000": {"bytes": 1, "sha256": "%s"}}}' % SHA.encode(), "lies outside"),
    (b'{"files": {"f": {"bytes": 1, "sha256": "%s"}}}' % SHA.encode(), "is missing"),
]


@pytest.mark.parametrize(("content", "says"), MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_manifest_that_says_nothing_useful_is_named_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(KnowshiftError) as caught:
        read_manifest(tmp_path)
    said = str(caught.value)
    assert says in said and str(tmp_path) in said and "\n" not in said
    with pytest.raises(KnowshiftError, match="were not written here"):
        (tmp_path / "mine").write_text("x")
        with whole_directory(tmp_path, {}):
            pass


def test_damage_of_a_table_at_any_place_ends_in_one_line(tmp_path: Path) -> None:
    """Of 300 tables with damaged bytes, most of them in the footer, each is read or named in one line."""
    draw, refused = random.Random(0), 0
    write_table(tmp_path / "whole", pa.table({"a": pa.array(range(1000), pa.int32())}), SCHEMA, {"x": 1})
    whole = (tmp_path / "whole").read_bytes()
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.choice([1, 2, 5])):
            content[draw.randrange(max(0, len(whole) - 900), len(whole))] = draw.randrange(256)
        (tmp_path / "damaged").write_bytes(content[: draw.choice([None, None, draw.randrange(len(whole))])])
        for read in (
            lambda: read_table(tmp_path / "damaged", SCHEMA),
            lambda: list(read_foreign_table(tmp_path / "damaged", " is missing", ["a"])),
        ):
            try:
                read()
            except KnowshiftError as error:
                assert str(tmp_path / "damaged") in str(error) and "\n" not in str(error)
                refused += 1
    assert refused > 300


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for place, inputs in ((tmp_path / "loop/a", []), (tmp_path / "b", [tmp_path / "loop/a"])):
        with (
            pytest.raises(KnowshiftError, match="a link that leads nowhere") as caught,
            whole_directory(place, {}, inputs),
        ):
            pass
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]
