"""Start, watch, stop and wake what runs on the test cluster: Snakemake itself, and the processes of its jobs."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
CLUSTER = Path(__file__).with_name("cluster.sh")
PATIENCE = 400  # seconds

Found = TypeVar("Found")


def cluster(*command: str) -> None:
    """Run a command of cluster.sh; skips the test where this machine cannot hold a cluster."""
    # The daemons keep the streams that they inherit open, so a pipe would never end.
    with subprocess.Popen(
        [str(CLUSTER), *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        status = process.wait()
        if status:
            reason = process.stderr.readline().strip()
            if status == 77:
                pytest.skip(reason)
            raise AssertionError(f"cluster.sh {' '.join(command)}: {reason}")
        process.stderr.close()


def queue(*options: str) -> dict[str, tuple[str, str, str]]:
    """Map the id of each job in the queue to its state, node and comment (the rule and its wildcards)."""
    command = ["squeue", "--noheader", "--format", "%A|%T|%N|%k", *options]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return {row[0]: (row[1], row[2], row[3]) for row in (line.split("|", 3) for line in listing.splitlines())}


def jobs_of(rule: str, run: str = "", state: str = "RUNNING") -> list[str]:
    """List the ids of a rule's jobs in a state, of all runs or of one."""
    return [
        job for job, row in queue().items() if row[0] == state and row[2].startswith(f"rule_{rule}_") and run in row[2]
    ]


def environment(*first_in_path: Path) -> dict[str, str]:
    """Return an environment in which jobs find the `python` and the `torchrun` of this interpreter.

    Args:
        first_in_path: folders that are searched before; the first has a `python`, which jobs run under.
    """
    python = {"KNOWSHIFT_PYTHON": str(first_in_path[0] / "python")} if first_in_path else {}
    path = os.pathsep.join([*map(str, first_in_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, **python, "PATH": path, "OMP_NUM_THREADS": "1"}


class Started:
    """A Snakemake process whose messages go to a file."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.log = folder, folder / f"snakemake.{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    @property
    def said(self) -> str:
        """All messages so far."""
        return self.log.read_text()

    def end(self) -> str:
        """Wait until Snakemake ends, assert that it succeeded, and return its messages."""
        status = self.process.wait()
        failed = [path for path in self.folder.rglob("results/logs/**/*.log") if "rror" in path.read_text()]
        logs = "".join(f"\n{path}:\n{path.read_text()[-1500:]}" for path in failed)
        assert status == 0, self.said[-6000:] + logs
        return self.said

    def kill(self) -> None:
        """Kill Snakemake without any warning, as when the login node goes down."""
        self.process.kill()
        self.process.wait()


class Workflow:
    """A folder with the tiny experiment, in which Snakemake can be started."""

    def __init__(self, folder: Path, configuration: dict, profile: dict) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(configuration))
        self.folder, self.results = folder, folder / "results/tiny"
        self.profile = folder / "profile"
        self.profile.mkdir(exist_ok=True)
        (self.profile / "config.yaml").write_text(yaml.safe_dump(profile))

    def start(self, *arguments: str, first_in_path: Path | None = None) -> Started:
        """Start Snakemake with more arguments, and perhaps a folder that jobs search for programs first."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        command += ["--workflow-profile", str(self.profile), *arguments]
        return Started(command, self.folder, environment(*filter(None, [first_in_path])))

    def run(self, *arguments: str) -> str:
        """Run Snakemake to its end, assert that it succeeded, and return its messages."""
        return self.start(*arguments).end()


class Holding:
    """Stops processes of jobs (SIGSTOP) as soon as they have saved something, and wakes them again.

    Set `snakemake` to the Snakemake at work before waiting for anything: waiting fails at once when that ends.
    """

    snakemake: Started

    def __init__(self, folder: Path) -> None:
        self.folder, self.ended = folder, threading.Event()
        self.wanted: dict[str, str] = {}  # output to the pattern of what is saved first
        self.stopped: dict[str, int] = {}  # output to the process that is stopped
        self._changing = threading.Lock()  # without it, a process that was just released could be stopped again
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def until(self, condition: Callable[[], Found]) -> Found:
        """Wait until the condition returns something true, and return that."""
        end = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert self.snakemake.process.poll() is None, f"Snakemake ended: {self.snakemake.said[-5000:]}"
            assert time.monotonic() < end, f"waited too long: {self.snakemake.said[-5000:]}"
            time.sleep(0.1)
        return found

    def running(self, rule: str, run: str) -> str:
        """Wait until a rule's only job for a run is running, and return the job's id."""
        return self.until(lambda: jobs_of(rule, run))[0]

    def hold(self, output: str, saved: str) -> None:
        """Stop whatever process writes `output` once there is a file that matches the pattern `saved`."""
        with self._changing:
            self.wanted[output] = saved

    def held(self, output: str) -> None:
        """Wait until the process that writes `output` is stopped."""
        self.until(lambda: (process := self.stopped.get(output)) and _lives(process))

    def held_again(self, output: str, process: int) -> None:
        """Wait until another process than this one is stopped while it writes `output`."""
        self.until(lambda: self.stopped.get(output, process) != process)

    def release(self, output: str) -> None:
        """Wake the process that writes `output`, and stop none for it any more."""
        with self._changing:
            self.wanted.pop(output, None)
            if process := self.stopped.pop(output, None):
                _signal(process, signal.SIGCONT)

    def close(self) -> None:
        """Watch no longer, and wake every process that is stopped."""
        self.ended.set()
        self._thread.join()
        for output in list(self.stopped):
            self.release(output)

    def _watch(self) -> None:
        while not self.ended.wait(0.01):
            with self._changing:
                for output, saved in self.wanted.items():
                    self._stop(output, saved)

    def _stop(self, output: str, saved: str) -> None:
        if output in self.stopped and _lives(self.stopped[output]):
            return
        self.stopped.pop(output, None)
        if _saved(self.folder / saved) and (found := _writing(output, self.folder)):
            _signal(found, signal.SIGSTOP)
            self.stopped[output] = found


def _signal(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return


def _saved(pattern: Path) -> bool:
    """Say whether a file matches the pattern; its folder may vanish any time."""
    try:
        return any(pattern.parent.glob(pattern.name))
    except OSError:
        return False


def _lives(process: int) -> bool:
    """Say whether a process exists and is no zombie, which has no command line."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except OSError:
        return False


def _writing(output: str, folder: Path) -> int | None:
    """Find the process that runs a script with `--output output` in this folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            writes = words[1:2] and words[1].endswith(".py") and ("--output", output) in pairwise(words)
            if writes and (process / "cwd").readlink() == folder.resolve():
                return int(process.name)
        except OSError:  # it has ended meanwhile
            continue
    return None
