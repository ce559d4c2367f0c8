"""How a process keeps memory that it has freed, and how much it may still take."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_KEPT = 1_000_000_000  # bytes at the end of a heap that are not given back
_LARGEST = 33_000_000  # bytes; larger blocks are mapped on their own, and glibc allows no higher bound


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, instead of giving it back to the system after each forward pass.

    The logits and activations of a pass are some megabytes, freed and allocated anew with the next one. Given back,
    each page is mapped and cleared again, which took a sixth of the time of an evaluation on two cores. Nothing happens
    where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGEST)


def available_memory(system: Path = Path("/")) -> int | None:
    """Return the bytes of main memory that this process may still take; None where the system does not say.

    The limits of control groups count, as SLURM and containers set them.

    Args:
        system: the root of /proc and /sys.
    """
    found: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        lines = (system / "proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError, IndexError):
        groups = (system / "proc/self/cgroup").read_text().splitlines()
        own = next(line[3:] for line in groups if line.startswith("0::")).strip("/")
        folder = system / "sys/fs/cgroup"
        for part in [folder, *(folder.joinpath(*own.split("/")[: n + 1]) for n in range(own.count("/") + 1))]:
            with suppress(OSError, ValueError):  # the root of the tree has no limit, and others may have none
                most, used = (int((part / f"memory.{name}").read_text()) for name in ("max", "current"))
                found.append(max(0, most - used))
    return min(found, default=None)
