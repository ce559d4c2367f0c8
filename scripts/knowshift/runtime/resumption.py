"""Resumes interrupted jobs, and keeps two copies of one job from working at the same time.

Finished parts are kept in a hidden folder beside the output, because Snakemake deletes declared outputs before it
restarts a job. The folder also holds the key of what they were made from (options, code, inputs); parts with another
key are discarded.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from knowshift.canonical import canonical_json
from knowshift.runtime.artefacts import MANIFEST, sha256_of, write_text
from knowshift.runtime.parquet import read_table, write_table, write_tables
from knowshift.runtime.progress import progress, start_logging


class Chunks:
    """The finished chunks of one job, by number.

    Args:
        folder: where they are kept.
        schema: schema of each chunk.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def missing(self, count: int) -> list[int]:
        """List the numbers of the chunks, out of `count`, that are still to be made."""
        return [number for number in range(count) if not self._path(number).exists()]

    def save(self, number: int, table: pa.Table) -> None:
        """Save a finished chunk."""
        write_table(self._path(number), table, self.schema)

    def load(self, count: int) -> Iterator[pa.Table]:
        """Yield all `count` chunks in order, with one in memory at a time."""
        return (read_table(self._path(number), self.schema) for number in range(count))


@contextmanager
def resumable(output: Path, key: Mapping[str, Any]) -> Iterator[Path | None]:
    """Hold the lock of `output`, and yield a folder for its finished parts; it is removed if the block succeeds.

    A second copy of the job waits here for the lock. It gets None, because there is nothing left to do, if the output
    exists with the same key. (Snakemake deletes outputs before it starts a job, so another copy has made it in the
    meantime.)

    Args:
        output: the file or directory that is made; the last one, if the job makes several.
        key: JSON values on which the output depends; what the folder holds was made with the same key.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}")
    lock, done, folder = (beside.with_name(f"{beside.name}.{end}") for end in ("lock", "done", "unfinished"))
    text = canonical_json(key)
    with holding(lock) as waited:
        same = output.exists() and done.exists() and done.read_text(encoding="utf-8") == text
        if same and (waited or key.get("code")):
            start_logging().info("%s has been made by another copy of this job", output)
            yield None
            return
        done.unlink(missing_ok=True)
        made_with = folder / "key.json"
        if folder.exists() and (not made_with.exists() or made_with.read_text(encoding="utf-8") != text):
            shutil.rmtree(folder)
        write_text(made_with, text)
        yield folder
        write_text(done, text)
        shutil.rmtree(folder)


@contextmanager
def holding(path: Path) -> Iterator[bool]:
    """Hold a lock, and yield whether another process held it first. The system frees it however a process ends."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
        waited = False
    except Timeout:
        start_logging().info("another copy of this job holds %s; waiting for it", path)
        lock.acquire()
        waited = True
    try:
        yield waited
    finally:
        lock.release()


def hidden_beside(path: Path, end: str) -> Path:
    """Return the path of a hidden file or folder beside `path`, such as `.20.parquet.made` for the end `made`."""
    return path.with_name(f".{path.name}.{end}")


def digest_of(key: Mapping[str, Any]) -> str:
    """Compute a digest of JSON values, short enough for the name of a folder."""
    return hashlib.sha256(canonical_json(key).encode()).hexdigest()[:16]


def record_made(record: Path, key: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Write down what files were made from, and their sha256.

    Args:
        record: the file to write.
        key: JSON values on which the files depend.
        files: the files, which exist.
    """
    write_text(record, canonical_json({"key": key, "sha256": [sha256_of(file) for file in files]}))


def is_made(record: Path, key: Mapping[str, Any], files: Sequence[Path]) -> bool:
    """Tell whether files are there, whole, and made from `key`, as a record of `record_made` says."""
    if not record.is_file() or not all(file.is_file() for file in files):
        return False
    made = {"key": key, "sha256": [sha256_of(file) for file in files]}
    return record.read_text(encoding="utf-8") == canonical_json(made)


def input_digests(*paths: Path | None) -> dict[str, str]:
    """Compute the sha256 of input files.

    Args:
        paths: files or folders; None stands for an input that is not given. Of a folder, its manifest is hashed, or
            all its files if it has none.

    Returns:
        Digests by `INDEX/NAME`: the index in `paths` and the name of the file.
    """
    digests = {}
    for index, path in enumerate(paths):
        if path is None:
            continue
        files = [path]
        if path.is_dir():
            manifest = path / MANIFEST
            files = [manifest] if manifest.exists() else sorted(file for file in path.iterdir() if file.is_file())
        digests |= {f"{index}/{file.name}": sha256_of(file) for file in files}
    return digests


def write_in_chunks(
    output: Path,
    key: Mapping[str, Any],
    schema: pa.Schema,
    parts: Sequence[pa.Table],
    make: Callable[[pa.Table, Callable[..., None]], pa.Table],
    unit: str,
    per_row: int = 1,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Make a table chunk by chunk, resuming where an interrupted run ended; interruptions do not change its bytes.

    Args:
        output: the Parquet file.
        key: JSON values on which the table depends; see `resumable`.
        schema: schema of the table.
        parts: tables from each of which one chunk is made.
        make: makes the chunk of a part, and calls the function it is given whenever one unit is done.
        unit: plural name of what the progress bar counts.
        per_row: units for each row of a part.
        metadata: metadata of the table; see `write_table`.
    """
    with resumable(output, key) as folder:
        if folder is None:
            return
        chunks = Chunks(folder, schema)
        missing = chunks.missing(len(parts))
        total, left = (per_row * sum(map(len, some)) for some in (parts, [parts[number] for number in missing]))
        with progress(what=output.name, unit=unit, total=total, initial=total - left) as bar:

            def tick(*_: object) -> None:
                bar.update()

            for number in missing:
                chunks.save(number, make(parts[number], tick))
        write_tables(output, chunks.load(len(parts)), schema, metadata)
