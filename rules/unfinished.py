"""Files that a job was to make again and never did: it failed, or was killed.

Snakemake deletes a job's outputs before it runs the job again. If the job then fails, Snakemake records its outputs as
if they had been made, from the new configuration; if it is killed, the old record stays. Either way the outputs are
gone, and what was made from their former versions is still there. The next start takes that for up to date, since
nothing that is there is older than its inputs or was made otherwise: "Nothing to be done". So such jobs are called for
here.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

UNFINISHED = "a job was to make this again and did not"  # stands for the params in a record


def find_unfinished(state: Path) -> list[str]:
    """List missing files whose job began after something that exists was made from them, sorted.

    A file that somebody deleted is none of them: what was made from it is younger than it. Nor is a temporary one.

    Args:
        state: Snakemake's folder `.snakemake`, with a record per output, and a marker per output that is being made.
    """
    records, markers = (dict(_named(state / folder)) for folder in ("metadata", "incomplete"))
    begun = {
        name: markers[name].stat().st_mtime if name in markers else _number(_read(record).get("endtime"))
        for name, record in records.items()
        if not Path(name).exists()
    }
    found: set[str] = set()
    for name, path in records.items() if begun else ():
        if Path(name).exists():
            record = _read(path)
            made = _number(record.get("endtime"))
            found |= {source for source in record.get("input") or () if begun.get(source, 0) > made}
    return sorted(found)


def call_for(state: Path, names: Iterable[str]) -> None:
    """Let Snakemake make files again when a target needs them, by a record that fits no configuration.

    (Forced files would be targets themselves, also in a run that was asked for something else.)

    Args:
        state: Snakemake's folder `.snakemake`.
        names: files of `find_unfinished`.
    """
    records = dict(_named(state / "metadata"))
    for name in names:
        with suppress(OSError):  # of a run that may only look
            records[name].write_text(json.dumps({**_read(records[name]), "params": [UNFINISHED]}), encoding="utf-8")


def _named(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files in a folder of Snakemake's, each with the name of the output that it is about."""
    for path in folder.rglob("*"):
        if path.is_file():
            code = "".join(part.removeprefix("@") for part in path.relative_to(folder).parts)
            try:
                yield urlsafe_b64decode(code).decode(), path
            except ValueError:
                continue  # a file of another version of Snakemake


def _read(path: Path) -> dict:
    """Read a record; one that was being written when the power failed says nothing."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _number(value: object) -> float:
    """A time of a record, in seconds; 0 if there is none."""
    return float(value) if isinstance(value, int | float) else 0.0
