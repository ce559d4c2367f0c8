"""Writes Parquet tables completely or not at all, in exactly their schema; equal rows give equal bytes."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from knowshift.canonical import canonical_json
from knowshift.runtime.artefacts import whole_file
from knowshift.runtime.errors import KnowshiftError, first_line
from knowshift.runtime.user_files import check_file

if TYPE_CHECKING:
    import pandas as pd

# What reading a damaged file raises: pyarrow's errors, and Python's where texts or times cannot be converted.
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError)
LONGEST_REASON = 300  # characters of what pyarrow says of a damaged file
ROW_GROUP = 1 << 16  # rows of a Parquet row group
MOST_ROWS = 50_000_000  # of a user's table: equal rows take next to no space in a file, and all of it in memory


class _NoPandas(MetaPathFinder):
    """Finds no pandas, and leaves all other modules to the finders after it."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Refuse pandas."""
        if fullname == "pandas":
            raise ModuleNotFoundError


def keep_pandas_unloaded() -> None:
    """Keep pyarrow from importing pandas, which takes longer to load than most jobs take to run.

    At its first conversion pyarrow looks for pandas, to know a data frame when it meets one. This makes a first
    conversion while no pandas can be found. `to_pandas` and `from_pandas` look again, so they work as ever.
    """
    if "pandas" not in sys.modules:
        finder = _NoPandas()
        sys.meta_path.insert(0, finder)
        try:
            pa.array([])
        finally:
            sys.meta_path.remove(finder)


def write_table(path: Path, table: pa.Table, schema: pa.Schema, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a table to a Parquet file.

    Args:
        path: the file.
        table: its columns may be in another order than the schema's, and of types that can be cast to them.
        schema: the exact schema of the file.
        metadata: JSON values, which go into the file's metadata under the key `knowshift`.

    Raises:
        KnowshiftError: the table has other columns than the schema.
    """
    write_tables(path, [table], schema, metadata)


def write_tables(
    path: Path, tables: Iterable[pa.Table], schema: pa.Schema, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write several tables, one after another, to one Parquet file; see `write_table`.

    Only a row group and one table are in memory at a time. The bytes of the file depend on the rows alone, not on how
    they are divided into tables.
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
                raise KnowshiftError(f"{path}: columns {odd} are in the table or in its schema, not in both")
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
    """Make the columns of a table contiguous, because Parquet pages would show how they were divided."""
    return table.combine_chunks().replace_schema_metadata(metadata)


def read_table(path: Path, schema: pa.Schema | None = None, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet table.

    Args:
        path: the file.
        schema: if given, the table must have its columns (those of `columns`, if that is given too) in its types.
        columns: names of the columns to read; None reads all.

    Raises:
        KnowshiftError: the file is missing or damaged, or a column is missing or of another type.
    """
    remedy = f"rebuild it with: snakemake --force {path}"
    try:
        table = pq.read_table(path, columns=columns)
    except FileNotFoundError:
        raise KnowshiftError(f"{path} does not exist; {remedy}") from None
    except UNREADABLE as error:
        raise _unreadable(path, error, remedy) from None
    if schema is not None:
        for name in columns or schema.names:
            expected = schema.field(name).type
            if name not in table.column_names or table.schema.field(name).type != expected:
                raise KnowshiftError(f"{path} has no column '{name}' of type {expected}; {remedy}")
    return table


def read_foreign_table(path: Path, missing: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Read the rows of a Parquet table that a user brings.

    Args:
        path: the file.
        missing: what to say, after the path, where there is no such file.
        columns: names of the columns whose cells are wanted; those of other columns are None.

    Raises:
        KnowshiftError: the file is missing or damaged, or has a column twice.
    """
    check_file(path, missing)
    try:
        stated = pq.read_metadata(path)
        names = stated.schema.to_arrow_schema().names
        if stated.num_rows > MOST_ROWS:
            raise KnowshiftError(f"{path} has {stated.num_rows:,} rows; at most {MOST_ROWS:,} are read, so divide it")
        if twice := [name for name in names if names.count(name) > 1]:
            raise KnowshiftError(f"{path} has the column {twice[0]} twice; remove or rename one of them")
        rows = pq.read_table(path, columns=[name for name in columns if name in names]).to_pylist()
    except UNREADABLE as error:
        raise _unreadable(path, error, "write it again") from None
    for row in rows:
        yield dict.fromkeys(names) | row


def _unreadable(path: Path, error: BaseException, remedy: str) -> KnowshiftError:
    """Make the error of a damaged file from what reading it raised."""
    reason = first_line(error)[:LONGEST_REASON]
    return KnowshiftError(f"{path} is not a readable Parquet file ({reason}); {remedy}")


def read_frames(folder: Path) -> dict[str, "pd.DataFrame"]:
    """Read all Parquet tables of a folder as data frames, by file name without its ending."""
    return {path.stem: read_table(path).to_pandas() for path in sorted(folder.glob("*.parquet"))}


def table_metadata(table: pa.Table) -> dict[str, Any]:
    """Get the metadata that `write_table` was given; empty for a table from elsewhere."""
    try:
        found = json.loads((table.schema.metadata or {}).get(b"knowshift", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
