"""A full disk and a lack of memory, for real: one line, a log that cannot take it, and nothing half made."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from knowshift.runtime.scarcity import lack_of

REPOSITORY = Path(__file__).parents[3]
# A script as ours are, whose main function is given.
SCRIPT = """
import sys
sys.path.insert(0, {scripts!r})
from cli.command_line import run

def main():
{body}

run(main)
"""
LIMIT = "resource.setrlimit(resource.RLIMIT_AS, (grown(), grown()))"
GROWN = "grown = lambda: int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (64 << 20)"
LACKS = {
    "numpy": f"import numpy, resource; {GROWN}; {LIMIT}; numpy.ones(1 << 30)",
    "torch": f"import torch, resource; {GROWN}; {LIMIT}; torch.ones(1 << 30)",
    "python": f"import resource; {GROWN}; {LIMIT}; bytearray(1 << 33)",
    "hidden": (
        f"import resource; {GROWN}; {LIMIT}\n"
        "    try:\n        bytearray(1 << 33)\n    except MemoryError:\n        raise ValueError('of a library')"
    ),
}


def script(body: str, prefix: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    """Run a main function in a process of its own; `prefix` is a shell command before it, and `2>` may follow."""
    code = SCRIPT.format(scripts=str(REPOSITORY / "scripts"), body="    " + body)
    command = f'{prefix} exec "$0" -c "$1"' + str(options.get("log", ""))
    return subprocess.run(
        ["bash", "-c", command, sys.executable, code], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("kind", LACKS)
def test_a_lack_of_memory_is_one_line(kind: str) -> None:
    done = script(LACKS[kind])
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and line.startswith("error: memory is used up (") and "mem_mb" in line
    assert "Traceback" not in done.stderr


def test_other_errors_stay_what_they_are() -> None:
    assert lack_of(ValueError("out of memory of a game")) is None
    assert lack_of(FileNotFoundError(errno.ENOENT, "No such file")) is None
    assert "Traceback" in script("raise RuntimeError('a mistake of ours')").stderr


@pytest.mark.parametrize(
    "body",
    [
        "from knowshift.runtime.errors import KnowshiftError; raise KnowshiftError('what, where, what to do')",
        f"raise OSError({errno.ENOSPC}, 'No space left on device', 'a.parquet')",
    ],
)
def test_where_the_log_is_full_the_line_goes_to_standard_output(body: str) -> None:
    done = script(body, log=" 2>/dev/full")
    (line,) = done.stdout.splitlines()
    assert done.returncode == 1 and line.startswith("error: ")


def test_where_nothing_can_be_written_the_status_says_it() -> None:
    assert script("open('/dev/full', 'w').write('x' * 100_000)", log=" >/dev/full 2>&1").returncode == 1


WRITERS = {
    "text": "write_text(Path('{folder}/made'), 'x' * 10_000_000)",
    "table": (
        "import os, pyarrow as pa; from knowshift.runtime.parquet import write_table;"
        " table = pa.table({{'a': [os.urandom(9_000_000)]}}); write_table(Path('{folder}/made'), table, table.schema)"
    ),
    "weights": (
        "import numpy as np; from knowshift.weights.safetensors_files import write_safetensors\n"
        "    with whole_directory(Path('{folder}/made'), {{}}) as folder:\n"
        "        write_safetensors(folder / 'a', {{'a': ('int8', (9_000_000,))}},"
        " lambda _: [np.ones(9_000_000, np.int8)])"
    ),
    "safetensors": (
        "import numpy as np; from safetensors.numpy import save_file\n"
        "    with whole_directory(Path('{folder}/made'), {{}}) as folder:\n"
        "        save_file({{'a': np.ones(9_000_000, np.int8)}}, folder / 'a')"
    ),
}


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a small file system, as root on Linux")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_one_line_and_nothing_half_made(kind: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    imports = "from pathlib import Path; from knowshift.runtime.artefacts import write_text, whole_directory; "
    body = imports + WRITERS[kind].format(folder=disk)
    mounted = f"mount -t tmpfs -o size=1m none {disk} || exit 77;"
    # The mount is in a namespace of its own and ends with it; the log is on the full disk too.
    program = SCRIPT.format(scripts=str(REPOSITORY / "scripts"), body="    " + body)
    command = f'{mounted} "$0" -c "$1" 2>{disk}/log; echo "status $?"; cat {disk}/log; ls -A {disk}'
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", command, sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounts a small file system, as root on Linux")
    lines = done.stdout.splitlines()
    assert "status 1" in lines and "made" not in lines, done
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert "the disk is full" in line and "Traceback" not in done.stdout
