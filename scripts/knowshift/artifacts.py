"""Artefacts are whole or absent: written beside their name, renamed into place on success.

Directories carry a `manifest.json` with a sha256 per file, written last. Rules depend on the manifest (Snakemake never
looks inside directories); readers verify what they read against it.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from knowshift.errors import KnowshiftError

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.json"
ROW_GROUP = 1 << 16  # rows of a Parquet row group


class _NoPandas(MetaPathFinder):
    """Lets pyarrow find no pandas, which takes longer to load than most jobs to run, until it is asked for a data frame.

    At its first conversion pyarrow looks for pandas, to know a data frame when it meets one; `to_pandas` and `from_pandas`
    look again.
    """

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError


if "pandas" not in sys.modules:
    sys.meta_path.insert(0, _NoPandas())
    pa.array([])
    del sys.meta_path[0]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text, whatever the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; it becomes `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_directory(path: Path, facts: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a directory beside `path` to fill; on success it gets a manifest with `facts` and becomes `path`.

    The manifest holds no times and no names of machines, so the same content gives the same manifest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        files = {
            str(file.relative_to(partial)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
            for file in sorted(partial.rglob("*"))
            if file.is_file()
        }
        manifest = {**facts, "files": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_manifest(directory: Path, verify: bool = True, declared: Path | None = None) -> dict[str, Any]:
    """The manifest of an artefact directory, after checking every file against it.

    Args:
        verify: compare contents; sizes are compared always.
        declared: what Snakemake knows the artefact by, where that is not its manifest.

    Raises:
        KnowshiftError: the manifest or a file is missing, or a file is not the one the manifest names.
    """
    path = directory / MANIFEST
    remedy = f"rebuild it with: snakemake --force {declared or path}"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KnowshiftError(f"{path} is missing, so {directory} is not whole; {remedy}") from None
    except json.JSONDecodeError as error:
        raise KnowshiftError(f"{path} is damaged ({error}); {remedy}") from None
    if not (isinstance(manifest, dict) and isinstance(manifest.get("files"), dict)):
        raise KnowshiftError(
            f"{path} names no files; it is not a manifest of knowshift: rename it, or take another folder"
        )
    for name, entry in manifest["files"].items():
        file = directory / name
        if not file.is_file():
            raise KnowshiftError(f"{file} is missing, though its manifest names it; {remedy}")
        if file.stat().st_size != entry["bytes"] or (verify and sha256_of(file) != entry["sha256"]):
            raise KnowshiftError(f"{file} is damaged (it differs from its manifest); {remedy}")
    return manifest


def manifest_of(directory: Path, verify: bool = True, declared: Path | None = None) -> dict[str, Any] | None:
    """`read_manifest` of a directory that may have no manifest, as a model from elsewhere; None where it has none."""
    return read_manifest(directory, verify, declared) if (directory / MANIFEST).is_file() else None


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
