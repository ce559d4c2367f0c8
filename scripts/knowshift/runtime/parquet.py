"""Parquet tables: written whole or not at all, in exactly their schema; equal rows give equal bytes."""

import json
import sys
from collections.abc import Iterable, Mapping
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from knowshift.canonical import canonical_json
from knowshift.runtime.artefacts import whole_file
from knowshift.runtime.errors import KnowshiftError

if TYPE_CHECKING:
    import pandas as pd

ROW_GROUP = 1 << 16  # rows of a Parquet row group


class _NoPandas(MetaPathFinder):
    """Finds no pandas, and leaves all other modules to the finders after it."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Refuse pandas."""
        if fullname == "pandas":
            raise ModuleNotFoundError


def keep_pandas_unloaded() -> None:
    """Keep pyarrow from importing pandas, which takes longer to load than most jobs take to run.

    At its first conversion pyarrow looks for pandas, to know a data frame when it meets one. This makes a first conversion
    while no pandas can be found. `to_pandas` and `from_pandas` look again, so they work as ever.
    """
    if "pandas" not in sys.modules:
        finder = _NoPandas()
        sys.meta_path.insert(0, finder)
        try:
            pa.array([])
        finally:
            sys.meta_path.remove(finder)


def write_table(path: Path, table: pa.Table, schema: pa.Schema, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a Parquet table in exactly `schema`; `metadata` goes into the file as JSON under the key `knowshift`.

    Raises:
        KnowshiftError: the table's columns are not the schema's.
    """
    write_tables(path, [table], schema, metadata)


def write_tables(
    path: Path, tables: Iterable[pa.Table], schema: pa.Schema, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write several tables as one, a few of them in memory at a time; see `write_table`.

    The bytes depend on the rows alone, not on how they are cut into tables.
    """
    kept = {**(schema.metadata or {}), b"knowshift": canonical_json(metadata or {}).encode()}
    with (
        whole_file(path) as partial,
        pq.ParquetWriter(partial, schema.with_metadata(kept), compression="zstd") as writer,
    ):
        waiting = schema.empty_table()
        for table in tables:
            if set(table.column_names) != set(schema.names):
                odd = sorted(set(table.column_names) ^ set(schema.names))
                raise KnowshiftError(f"{path}: columns {odd} are not both in the table and in its schema")
            table = table.select(schema.names)
            if not table.schema.equals(schema):
                table = table.cast(schema)
            waiting = pa.concat_tables([part.replace_schema_metadata(None) for part in (waiting, table)])
            while len(waiting) >= ROW_GROUP:
                writer.write_table(_whole(waiting[:ROW_GROUP], kept), ROW_GROUP)
                waiting = waiting[ROW_GROUP:]
        if len(waiting):
            writer.write_table(_whole(waiting, kept), ROW_GROUP)


def _whole(table: pa.Table, metadata: dict[bytes, bytes]) -> pa.Table:
    """The table in one piece: how it was cut would show in the pages that Parquet writes."""
    return table.combine_chunks().replace_schema_metadata(metadata)


def read_table(path: Path, schema: pa.Schema | None = None, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet table and check that it has the columns of `schema`, where one is given.

    Raises:
        KnowshiftError: the file is missing or damaged, or columns differ in name or type.
    """
    remedy = f"rebuild it with: snakemake --force {path}"
    try:
        table = pq.read_table(path, columns=columns)
    except FileNotFoundError:
        raise KnowshiftError(f"{path} does not exist; {remedy}") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise KnowshiftError(
            f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}); {remedy}"
        ) from None
    for name in (columns or schema.names) if schema else ():
        expected = schema.field(name).type
        if name not in table.column_names or table.schema.field(name).type != expected:
            raise KnowshiftError(f"{path} has no column '{name}' of type {expected}; {remedy}")
    return table


def read_frames(folder: Path) -> dict[str, "pd.DataFrame"]:
    """The Parquet tables of a folder by name, as data frames."""
    return {path.stem: read_table(path).to_pandas() for path in sorted(folder.glob("*.parquet"))}


def table_metadata(table: pa.Table) -> dict[str, Any]:
    """What `write_table` was given as metadata."""
    return json.loads((table.schema.metadata or {}).get(b"knowshift", b"{}"))
