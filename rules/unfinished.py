"""Files that a job was to make again and did not, because it failed or was killed.

Snakemake deletes a job's outputs before it runs the job again. If the job then fails, Snakemake records its outputs as
if they had been made, from the new configuration; if it is killed, the old record stays, and a marker with it. Either
way the outputs are gone, and what was made from their former versions is still there. The next start takes that for up
to date, since nothing that is there is older than its inputs or was made otherwise: "Nothing to be done". So failures
are noted here, and what lacks after them or after a kill is called for.
"""

import json
import logging
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from knowshift.runtime.artefacts import write_text

FAILED = "knowshift/failed.json"  # in Snakemake's folder: outputs of jobs that failed
UNFINISHED = "a job was to make this again and did not"  # stands for the params in a record


class Failures(logging.Handler):
    """Notes the outputs of jobs that fail, until they are made.

    Args:
        state: Snakemake's folder `.snakemake`.
    """

    def __init__(self, state: Path) -> None:
        super().__init__()
        self._file = state / FAILED
        self._noted = set(_noted(state))
        self._outputs: dict[int, list[str]] = {}  # by job

    def emit(self, record: logging.LogRecord) -> None:
        """Take up an event of Snakemake's; other messages are none of its business."""
        event, said = str(getattr(record, "event", "")), vars(record)
        if event == "job_info":
            self._outputs[said["jobid"]] = [str(file) for file in said.get("output") or ()]
        elif event == "job_error":
            self._note(self._noted.union(self._outputs.get(said["jobid"], ())))
        elif event == "job_finished":
            self._note(self._noted.difference(self._outputs.get(said["job_id"], ())))

    def _note(self, names: set[str]) -> None:
        """Keep the names if they are others than before."""
        if names != self._noted:
            self._noted = names
            with suppress(OSError):
                write_text(self._file, json.dumps(sorted(names)))


def call_for(state: Path) -> list[str]:
    """Let Snakemake make what a job was to make again and did not, as soon as a target needs it.

    Its record is changed so that it fits no configuration. (Forced files would be targets themselves, also in a run
    that was asked for something else.) What is there is made, maybe by a job that outlived its Snakemake, and is noted
    no longer: a temporary file of it may then be deleted.

    Args:
        state: Snakemake's folder `.snakemake`, with a record per output, and a marker per output that is being made.

    Returns:
        The missing files that are called for and were not before, sorted.
    """
    markers, noted = dict(_named(state / "incomplete")), _noted(state)
    lacking = {name for name in {*markers, *noted} if not Path(name).exists()}
    if not lacking.issuperset(noted):
        with suppress(OSError):
            write_text(state / FAILED, json.dumps(sorted(lacking.intersection(noted))))
    records = dict(_named(state / "metadata")) if lacking else {}
    called = []
    for name in sorted(lacking & records.keys()):  # what has no record was never made, so nothing was made from it
        record = _read(records[name])
        if isinstance(record, dict) and record.get("params") != [UNFINISHED]:
            with suppress(OSError):  # of a run that may only look
                records[name].write_text(json.dumps({**record, "params": [UNFINISHED]}), encoding="utf-8")
                called.append(name)
    return called


def _noted(state: Path) -> list[str]:
    """The outputs that earlier runs noted."""
    noted = _read(state / FAILED)
    return [name for name in noted if isinstance(name, str)] if isinstance(noted, list) else []


def _named(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files in a folder of Snakemake's, each with the name of the output that it is about."""
    for path in folder.rglob("*"):
        if path.is_file():
            code = "".join(part.removeprefix("@") for part in path.relative_to(folder).parts)
            try:
                yield urlsafe_b64decode(code).decode(), path
            except ValueError:
                continue  # a file of another version of Snakemake


def _read(path: Path) -> Any:
    """Read a JSON file; one that is not there, or was being written when the power failed, says nothing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
