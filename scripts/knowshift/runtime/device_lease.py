"""Leases the device that a job computes on: the CPU, or a GPU that no other job on this machine holds."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from platformdirs import user_runtime_path

from knowshift.runtime.errors import KnowshiftError


@contextmanager
def lease_device(wanted: str, threads: int | None = None) -> Iterator[torch.device]:
    """Yield the device to compute on.

    A GPU that "auto" finds is held until the block ends, so two jobs never share one.

    Args:
        wanted: "auto", "cpu" or "cuda:N". "auto" is a free GPU if the machine has GPUs, else the CPU.
        threads: number of CPU threads for torch; None leaves the choice to torch.

    Raises:
        KnowshiftError: every GPU is held by another job, or there is no GPU of this number.
    """
    if wanted.startswith("cuda") and not _index(wanted) < (count := _count_gpus()):
        raise KnowshiftError(
            f"--device {wanted}: "
            + (f"the GPUs here are cuda:0 to cuda:{count - 1}" if count else "there is no GPU here")
        )
    if threads:
        torch.set_num_threads(threads)
    if wanted != "auto" or not torch.cuda.is_available():
        yield torch.device("cpu" if wanted == "auto" else wanted)
        return
    names = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    lock, index = lease_first(names, lock_folder())
    try:
        yield torch.device("cuda", index)
    finally:
        lock.release()


def _index(device: str) -> int:
    """Return the number of a GPU, such as 1 of cuda:1, and 0 of cuda."""
    return int(device.partition(":")[2] or 0)


def _count_gpus() -> int:
    """Count the GPUs that torch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def lock_folder() -> Path:
    """Make the folder of this user's lock files: in the runtime folder that the system gives the user, or in /tmp.

    Raises:
        KnowshiftError: somebody else's file, folder or link stands in its place.
    """
    given = user_runtime_path()
    writable = os.access(given, os.W_OK | os.X_OK)
    folder = given / "knowshift" if writable else Path(tempfile.gettempdir()) / f"knowshift-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise KnowshiftError(f"locks of GPUs cannot be kept in {folder} ({error.strerror}); remove it") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise KnowshiftError(f"locks of GPUs cannot be kept in {folder}: it is not a folder of yours; remove it")
    return folder


def lease_first(names: list[str], directory: Path) -> tuple[FileLock, int]:
    """Lock the first of some devices that no living process holds.

    The lock belongs to the process, so the operating system frees it however the process ends.

    Args:
        names: names of the devices, unique on this machine.
        directory: the folder of the lock files.

    Returns:
        The lock, and the index of the device in `names`.

    Raises:
        KnowshiftError: all of them are held.
    """
    for index, name in enumerate(names):
        lock = FileLock(directory / f"knowshift-device-{name}.lock", timeout=0, mode=0o666)
        try:
            lock.acquire()
        except Timeout:
            continue
        except OSError as error:
            raise KnowshiftError(f"the lock of a GPU cannot be taken ({error}); remove {directory}") from None
        return lock, index
    raise KnowshiftError(
        f"all {len(names)} GPUs are held by other knowshift jobs; lower `resources: gpu:` in the profile to that number"
    )
