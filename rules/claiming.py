"""One run at a time writes to a results folder, wherever each was started.

Snakemake's own lock lies in `.snakemake` of the folder that it was started in, so two clones that share their results
do not see each other's, and each deletes what the other is about to read. The lock here lies in the results. The system
holds it for this process and frees it however the process ends, on other machines too where the file system passes
locks on (NFS does); so there is none to be taken away by hand.
"""

import json
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout
from snakemake.logging import logger

from knowshift.runtime.artefacts import write_text
from knowshift.runtime.errors import presentable

LOCK, HOLDER = ".run.lock", ".run.json"  # in the results: the lock, and who holds it
_held: list[FileLock] = []  # until this process ends


def claim(results: Path) -> bool:
    """Take the lock of a results folder for this process; while another run holds it, say so and wait.

    A folder that cannot be written to, or whose file system knows no locks, is left to the jobs.

    Args:
        results: the results folder.

    Returns:
        Whether another run held it first, so that what is there now is not what this run was planned for.
    """
    waited = False
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock = FileLock(results / LOCK, is_singleton=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
            logger.info(f"Another run writes to {results} ({_holder(results)}). Waiting for it to end.")
            lock.acquire()
        _held.append(lock)
        me = {"folder": str(Path.cwd()), "process": os.getpid(), "machine": socket.gethostname()}
        write_text(results / HOLDER, json.dumps(me) + "\n")
    except (OSError, NotImplementedError) as error:
        logger.debug(f"{results} is not locked: {error}")
    return waited


def _holder(results: Path) -> str:
    """Say who holds the lock, as far as it is known."""
    try:
        known = json.loads((results / HOLDER).read_text(encoding="utf-8"))
        return presentable(f"started in {known['folder']}, process {known['process']} on {known['machine']}")
    except (OSError, ValueError, TypeError, KeyError):
        return "it does not say from where"
