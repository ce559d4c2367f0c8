"""Jobs that outlived their Snakemake (it was killed, or the login node went down): the next one waits for them.

Snakemake deletes a job's outputs before it starts the job again, so a second copy that started just after an orphan has
ended would do the work twice. It also keeps no record of what an orphan finished, so later edits would rerun nothing.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

PAUSE = 10  # seconds between two looks at the queue
MANY = 20  # jobs or files that are named in a message


def wait() -> bool:
    """Wait until no job of an earlier Snakemake in this folder runs. Jobs that have not started are cancelled.

    Returns:
        Whether there were any such jobs.

    Raises:
        WorkflowError: another Snakemake is at work in this folder, and its jobs cannot be told from orphans.
    """
    named: set[str] = set()
    while jobs := _living(Path.cwd()):
        if len(list(Path(".snakemake/locks").glob("*.output.lock"))) > 1:
            raise WorkflowError(
                "another Snakemake is at work in this folder and has jobs on the cluster; wait for it to end"
            )
        pending = [job for job, state in jobs.items() if state == "PENDING"]
        if pending:
            logger.info(f"Jobs of an earlier Snakemake that have not started are cancelled: {some(pending)}")
            subprocess.run(["scancel", "--state=PENDING", *pending], check=False)
        elif set(jobs) - named:
            logger.info(
                f"Jobs of an earlier Snakemake still run: {some(jobs)}. Waiting for them to end. To end them now:"
                f" scancel {' '.join(jobs)} (they save what is done, and other jobs go on from there)."
            )
        named |= set(jobs)
        time.sleep(1 if pending else PAUSE)
    return bool(named)


def _living(folder: Path) -> dict[str, str]:
    """Return the states of the user's SLURM jobs that a Snakemake in this folder submitted, by id."""
    ask = ["squeue", "--me", "--noheader", "--format", "%A|%T|%Z|%k"]
    try:
        listing = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:  # another kind of cluster
        return {}
    rows = [line.split("|", 3) for line in listing.splitlines()]
    return {
        job: state
        for job, state, started_in, comment in rows
        if Path(started_in) == folder and comment.startswith(("rule_", "group_"))
    }


def start_again(workflow: Any, reason: str = "The jobs of the earlier Snakemake have ended; starting again.") -> None:
    """Replace this process by a new Snakemake, which sees the outputs finished meanwhile; say why."""
    logger.info(reason)
    workflow.persistence.unlock()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])


def take_over(workflow: Any, sources: Iterable[Path]) -> None:
    """Record how outputs were made that were finished while no Snakemake watched.

    Args:
        workflow: Snakemake's workflow object.
        sources: the files of the configuration and the code. If one is newer than such an output, nobody knows which
            version made it.

    Raises:
        WorkflowError: a source is newer than such an output.
    """
    records = workflow.persistence
    newest = max(sources, key=lambda path: path.stat().st_mtime)
    unsure = []
    for job in workflow.dag.jobs:
        made = [file for file in job.output if Path(file).exists()]
        if workflow.dag.needrun(job) or not made or any(records.metadata(file) for file in job.output):
            continue
        if min(Path(file).stat().st_mtime for file in made) < newest.stat().st_mtime:
            unsure += made
        else:
            logger.info(f"Finished by a job that outlived its Snakemake: {some(made)}")
            workflow.async_run(records.finished(job))
            workflow.async_run(workflow.dag.handle_temp(job))  # such as the checkpoint that a delta was made from
    if unsure:
        raise WorkflowError(
            f"{some(unsure)}: finished by jobs that outlived their Snakemake, but {newest} has changed since; delete"
            " them to have them made again, or touch them if that edit does not concern them"
        )


def some(names: Iterable[Any]) -> str:
    """Name some of many files or jobs, and count the rest."""
    names = list(map(str, names))
    return ", ".join(names[:MANY]) + (f" and {len(names) - MANY} more" if len(names) > MANY else "")
