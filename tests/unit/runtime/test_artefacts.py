"""Artefacts are whole or absent, equal content gives equal bytes, and damage is noticed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from knowshift.runtime.artefacts import _remove_abandoned, read_manifest, whole_directory, whole_file
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_table, write_table

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
