"""Long jobs survive interruption, and two copies of one job never work side by side.

What is finished lies in a hidden folder beside the output, since Snakemake deletes declared outputs before it starts a job
again. It is kept with the key of what it was made from (options, code, inputs): what has another key is discarded.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from knowshift.canonical import canonical_json
from knowshift.runtime.artefacts import sha256_of, write_text
from knowshift.runtime.parquet import read_table, write_table, write_tables
from knowshift.runtime.progress import progress, start_logging


class Chunks:
    """The chunks of one job that are finished, by number."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def missing(self, count: int) -> list[int]:
        """Which of `count` chunks are still to be made."""
        return [number for number in range(count) if not self._path(number).exists()]

    def save(self, number: int, table: pa.Table) -> None:
        """Keep a finished chunk."""
        write_table(self._path(number), table, self.schema)

    def load(self, count: int) -> Iterator[pa.Table]:
        """All chunks in order, one in memory at a time."""
        return (read_table(self._path(number), self.schema) for number in range(count))


@contextmanager
def resumable(output: Path, key: Mapping[str, Any]) -> Iterator[Path | None]:
    """Hold the lock of `output` and yield a folder for what is finished of it; on success of the block it is removed.

    A second copy of the job waits here. Where the output is there with the same key, it gets None: there is nothing left
    to do. (Snakemake deletes outputs before it starts a job, so what is there was made by another copy meanwhile.)

    Args:
        output: the file or directory that is made, the last one of several.
        key: everything that changes it; what lies in the folder was made with the same.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}")
    lock, done, folder = (beside.with_name(f"{beside.name}.{end}") for end in ("lock", "done", "unfinished"))
    text = canonical_json(key)
    with _waiting(lock) as waited:
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
def _waiting(path: Path) -> Iterator[bool]:
    """Hold a lock; yields whether another process held it first. The system frees it however a process ends."""
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


def input_digests(*paths: Path | None) -> dict[str, str]:
    """The sha256 of input files by place and name; of a folder, its manifest's, or those of its files."""
    digests = {}
    for place, path in enumerate(paths):
        if path is None:
            continue
        files = [path]
        if path.is_dir():
            manifest = path / "manifest.json"
            files = [manifest] if manifest.exists() else sorted(file for file in path.iterdir() if file.is_file())
        digests |= {f"{place}/{file.name}": sha256_of(file) for file in files}
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
    """Make a table part by part, from where an interrupted run ended; its bytes do not depend on interruptions.

    Args:
        output: the table.
        key: everything that changes it, see `resumable`.
        schema: of the table.
        parts: what its chunks are made from.
        make: makes the chunk of a part, and calls the function it is given whenever one unit is done.
        unit: what is counted on the progress bar, `per_row` of them for each row of a part.
        metadata: for the table.
    """
    with resumable(output, key) as folder:
        if folder is None:
            return
        chunks = Chunks(folder, schema)
        missing = chunks.missing(len(parts))
        total, left = (per_row * sum(map(len, some)) for some in (parts, [parts[number] for number in missing]))
        with progress(what=output.name, unit=unit, total=total, initial=total - left) as bar:
            for number in missing:
                chunks.save(number, make(parts[number], lambda *_: bar.update()))
        write_tables(output, chunks.load(len(parts)), schema, metadata)
