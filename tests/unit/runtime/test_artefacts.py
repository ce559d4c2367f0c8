"""Artefacts are whole or absent, equal content gives equal bytes, and damage is noticed."""

from pathlib import Path

import pyarrow as pa
import pytest

from knowshift.runtime.artefacts import read_manifest, whole_directory, whole_file
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_table, write_table

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
