"""Timing whole processes and functions, and tables of what was measured; shared by the benchmarks."""

import fcntl
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

RESULTS = Path("results/bench")
LIMITS = {"oneDNN": "ONEDNN_MAX_CPU_ISA", "MKL": "MKL_ENABLE_INSTRUCTIONS", "CTranslate2": "CT2_FORCE_CPU_ISA"}


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def timed_process(command: Sequence[str], **environment: str) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a whole process; its output is shown only where it fails.

    Raises:
        RuntimeError: the process failed.
    """
    measure = [sys.executable, "-S", "-c", _MEASURE, *command]
    done = subprocess.run(measure, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    *output, measured = done.stdout.splitlines() or [""]
    joined = "\n".join(output[-20:])
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{joined}\n{done.stderr[-2000:]}")
    seconds, kilobytes = measured.split()
    return float(seconds), int(kilobytes) / 1024


# A process is charged with the peak memory of the one it was forked from, so a small one starts what is measured.
_MEASURE = """
import os, sys, time
start = time.perf_counter()
_, status, usage = os.wait4(os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:]), 0)
print(f"\\n{time.perf_counter() - start} {usage.ru_maxrss}")
sys.exit(os.waitstatus_to_exitcode(status))
"""


@contextmanager
def alone(lock: Path | None) -> Iterator[None]:
    """Hold a lock file while something is timed, where people who share a machine have agreed on one."""
    if lock is None:
        yield
        return
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cpu_seconds() -> float:
    """Seconds that the machine's CPUs have worked since it started, for whomever."""
    user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, (user, nice, system, *interrupts[:2]))) / os.sysconf("SC_CLK_TCK")


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def instructions() -> str:
    """The vector instructions that torch's own kernels, oneDNN and MKL use; a variable can hold them below the CPU's.

    `make bench` on a processor with AVX-512 shows one with AVX2 under ATEN_CPU_CAPABILITY=avx2 (torch),
    ONEDNN_MAX_CPU_ISA=AVX2, MKL_ENABLE_INSTRUCTIONS=AVX2 and CT2_FORCE_CPU_ISA=AVX2 (CTranslate2).
    """
    import torch

    limits = {name: os.environ.get(variable) for name, variable in LIMITS.items()}
    said = ", ".join(f"{name} at most {limit}" for name, limit in limits.items() if limit)
    return f"{torch.backends.cpu.get_cpu_capability()}" + (f" ({said})" if said else "")


def machine(*packages: str) -> str:
    """The machine with its vector instructions, and the versions of packages, in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    python = platform.python_version()
    return f"{os.cpu_count()} CPUs ({platform.machine()}, {instructions()}), Python {python}, {versions}"


def show(name: str, rows: Sequence[dict], about: str) -> None:
    """Print rows as a Markdown table and keep them in `results/bench/NAME.json`."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        [f"{row.get(c, ''):.3g}" if isinstance(row.get(c), float) else str(row.get(c, "")) for c in columns]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [columns, *lines]) for i in range(len(columns))]
    print(f"\n### {name}\n\n{about}\n")
    for line in [columns, ["-" * width for width in widths], *lines]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"about": about, "rows": list(rows)}, indent=1) + "\n")
