"""Freed memory stays with the process."""

import platform
import resource
import subprocess
import sys

import pytest

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
