"""Where a job computes: the CPU, or a GPU that no other job of this machine holds."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from knowshift.runtime.errors import KnowshiftError


@contextmanager
def lease_device(wanted: str, threads: int | None = None) -> Iterator[torch.device]:
    """Yield the device to compute on; a GPU chosen by "auto" is held for the block, so two jobs never share one.

    Args:
        wanted: "auto", "cpu" or "cuda:N".
        threads: CPU threads for torch, or None for its own choice.

    Raises:
        KnowshiftError: every GPU is held by another job.
    """
    if threads:
        torch.set_num_threads(threads)
    if wanted != "auto" or not torch.cuda.is_available():
        yield torch.device("cpu" if wanted == "auto" else wanted)
        return
    names = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    lock, index = lease_first(names, Path(tempfile.gettempdir()))
    try:
        yield torch.device("cuda", index)
    finally:
        lock.release()


def lease_first(names: list[str], directory: Path) -> tuple[FileLock, int]:
    """Lock the first of `names` that no living process holds; returns the lock and its index.

    The lock belongs to the process, so the operating system frees it however the process ends.
    """
    for index, name in enumerate(names):
        lock = FileLock(directory / f"knowshift-device-{name}.lock", timeout=0, mode=0o666)
        try:
            lock.acquire()
        except Timeout:
            continue
        return lock, index
    raise KnowshiftError(
        f"all {len(names)} GPUs are held by other knowshift jobs; lower `resources: gpu:` in the profile to that number"
    )
