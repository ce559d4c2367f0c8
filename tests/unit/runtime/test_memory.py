"""Freed memory stays with the process, and how much it may still take is known."""

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from knowshift.runtime.memory import available_memory
from planned import REPOSITORY

# A thread takes and frees eight blocks of a megabyte, twenty times.
FAULTS = """
import resource, sys, threading
sys.path.insert(0, {scripts!r})
from knowshift.runtime.memory import keep_freed_memory
keep_freed_memory()
import numpy as np

def work():
    for _ in range(20):
        blocks = [np.empty(1_000_000, np.uint8) for _ in range(8)]
        for block in blocks:
            block.fill(1)
        del block, blocks

before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_blocks_that_are_freed_are_used_again_without_new_pages() -> None:
    code = FAULTS.format(scripts=str(REPOSITORY / "scripts"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pages = 8_000_000 // resource.getpagesize()
    assert int(done.stdout) < 5 * pages  # not twenty times as many


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_least_of_the_machine_and_its_control_groups_is_available(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None  # a system that says nothing
    write(tmp_path / "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert available_memory(tmp_path) == 4000 * 1024
    groups = tmp_path / "sys/fs/cgroup"
    write(tmp_path / "proc/self/cgroup", "0::/job_7/step_0\n")
    write(groups / "job_7/memory.max", "3000000\n")
    write(groups / "job_7/memory.current", "1000000\n")
    write(groups / "job_7/step_0/memory.max", "max\n")
    write(groups / "job_7/step_0/memory.current", "900000\n")
    assert available_memory(tmp_path) == 2_000_000
    write(groups / "job_7/memory.current", "4000000\n")
    assert available_memory(tmp_path) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_this_machine_says_what_is_available() -> None:
    assert (available_memory() or 0) > 0
