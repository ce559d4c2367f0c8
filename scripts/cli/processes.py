"""The device of a process, and under torchrun its group of processes, as the environment describes them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from knowshift.runtime.device_lease import lease_device

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for later, where it can be told to (glibc).

    Otherwise the gradients of every step go back to the system, which clears their pages anew: a tenth of a step's
    time with a small model on a CPU. The peak of memory and all results stay the same.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


@contextmanager
def join_processes(device_name: str, threads: int | None) -> Iterator[torch.device]:
    """Yield the device of this process; under torchrun, the process joins the group of all processes meanwhile.

    Args:
        device_name: auto, cpu or cuda:N.
        threads: number of CPU threads of all processes of this machine together; None leaves the choice to torch.
    """
    keep_freed_memory()
    # Ask for the same sums every time; these are read when CUDA starts and change nothing on a CPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    if "RANK" not in os.environ:
        with lease_device(device_name, threads) as device:
            yield device
        return
    own_threads = threads and max(1, threads // int(os.environ["LOCAL_WORLD_SIZE"]))
    with lease_device("cpu" if device_name == "cpu" else "auto", own_threads) as device:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # The timeout is long: all processes wait while the first one waits for another copy of the job.
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=7))
        try:
            yield device
        finally:
            dist.destroy_process_group()
