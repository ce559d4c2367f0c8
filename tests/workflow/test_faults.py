"""Runs that fail, are killed, or share their results with another: what rules/orphans.smk does, in a tiny workflow."""

import json
import os
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from unfinished import FAILED, call_for

REPOSITORY = Path(__file__).parents[2]
# Three jobs in a row. What the first does besides its work is no param, so that it makes nothing stale.
SNAKEFILE = """
import sys
from snakemake.settings.types import ExecMode
sys.path.extend([{rules!r}, {scripts!r}])
from pathlib import Path
from snakemake.logging import logger
BASE, RESULTS = Path({root!r}), {results!r}
def forget_forced(): pass
include: {rules!r} + "/orphans.smk"
rule all:
    default_target: True
    input: f"{{RESULTS}}/third"
rule other:
    output: f"{{RESULTS}}/other"
    shell: "touch {{output}}"
rule first:
    output: f"{{RESULTS}}/first", temp(f"{{RESULTS}}/passing")
    params: spec=config["spec"], fault=lambda wildcards, resources: config.get("fault", "true")
    shell: "echo begun; {{params.fault}}; echo {{params.spec}} > {{output[0]}}; touch {{output[1]}}"
rule second:
    input: f"{{RESULTS}}/first", f"{{RESULTS}}/passing"
    output: f"{{RESULTS}}/second"
    shell: "cp {{input[0]}} {{output}}"
rule third:
    input: f"{{RESULTS}}/second"
    output: f"{{RESULTS}}/third"
    shell: "cp {{input}} {{output}}"
"""
UNFINISHED = "Deleted for jobs that then failed or were killed, so to be made again: "


def clone(folder: Path, results: Path) -> Path:
    """Make a folder with the tiny workflow, which writes to `results`."""
    folder.mkdir()
    root = REPOSITORY
    text = SNAKEFILE.format(
        root=str(root), rules=str(root / "rules"), scripts=str(root / "scripts"), results=str(results)
    )
    (folder / "Snakefile").write_text(text)
    return folder


def command(*more: str, spec: str = "1") -> list[str]:
    """Call Snakemake as the default profile does."""
    options = ["--cores", "2", "--rerun-incomplete", "--rerun-triggers", "input", "params"]
    return [sys.executable, "-m", "snakemake", *options, "--config", f"spec=is{spec}", *more]


def snakemake(folder: Path, *more: str, spec: str = "1") -> subprocess.CompletedProcess[str]:
    """Run the tiny workflow; its messages are in stdout."""
    return subprocess.run(
        command(*more, spec=spec),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )


def begin(folder: Path, *more: str, spec: str = "1") -> subprocess.Popen[str]:
    """Start the tiny workflow in a group of processes of its own, until its first job has begun."""
    process = subprocess.Popen(
        command("fault=sleep 600", *more, spec=spec),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("begun"):
            return process
    raise AssertionError("the first job has not begun")


def end(process: subprocess.Popen[str]) -> None:
    """Kill a run with its jobs."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_what_a_failed_job_was_to_make_again_is_made_again(tmp_path: Path) -> None:
    """Snakemake alone says "Nothing to be done", and results of the old configuration pass for those of the new."""
    folder, results = clone(tmp_path / "clone", tmp_path / "results"), tmp_path / "results"
    assert snakemake(folder).returncode == 0
    assert snakemake(folder, "fault=exit 3", spec="2").returncode == 1
    assert not (results / "first").exists() and (results / "third").read_text() == "is1\n"
    planned = snakemake(folder, "--dry-run", spec="2").stdout
    assert f"{UNFINISHED}{results}/first" in planned and "Nothing to be done" not in planned
    asked = snakemake(folder, "--", str(results / "other"), spec="2")  # something that does not need it
    assert (results / "other").exists() and not (results / "first").exists(), asked.stdout
    done = snakemake(folder, spec="2")
    assert done.returncode == 0, done.stdout
    assert (results / "third").read_text() == (results / "first").read_text() == "is2\n"
    again = snakemake(folder, spec="2").stdout
    assert "Nothing to be done" in again and UNFINISHED not in again


@pytest.mark.slow
def test_what_a_killed_job_was_to_make_again_is_made_again(tmp_path: Path) -> None:
    """It was forced, so that no parameter tells the next start that anything is to be done."""
    folder, results = clone(tmp_path / "clone", tmp_path / "results"), tmp_path / "results"
    assert snakemake(folder).returncode == 0
    end(begin(folder, "--forcerun", "first"))
    assert not (results / "first").exists() and (results / "third").exists()
    said = snakemake(folder, "--unlock").stdout
    done = snakemake(folder)
    assert done.returncode == 0 and UNFINISHED in said + done.stdout, done.stdout
    assert (results / "first").exists()
    assert UNFINISHED not in snakemake(folder).stdout


@pytest.mark.slow
def test_what_is_there_was_made_after_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state, made = Path(".snakemake"), Path("made")
    record = state / "metadata" / urlsafe_b64encode(bytes(made)).decode()
    for path, content in ((record, {"params": ["1"]}), (state / FAILED, [str(made)])):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    made.touch()  # by a job that outlived its Snakemake
    assert call_for(state) == []
    made.unlink()  # it was temporary, and all that needed it has read it
    assert call_for(state) == []
    (state / FAILED).write_text(json.dumps([str(made)]))
    assert call_for(state) == [str(made)]


def test_what_somebody_deleted_stays_deleted(tmp_path: Path) -> None:
    folder, results = clone(tmp_path / "clone", tmp_path / "results"), tmp_path / "results"
    assert snakemake(folder).returncode == 0
    (results / "first").unlink()
    said = snakemake(folder).stdout
    assert "Nothing to be done" in said and UNFINISHED not in said and not (results / "first").exists()


@pytest.mark.slow
def test_a_second_clone_waits_for_the_first(tmp_path: Path) -> None:
    results = tmp_path / "results"
    one, other = clone(tmp_path / "one", results), clone(tmp_path / "other", results)
    go = tmp_path / "go"
    wait = f"fault=while [ ! -e {go} ]; do sleep 0.1; done"
    runs = []
    for folder in (one, other):
        with (folder / "log").open("w") as log:
            runs.append(subprocess.Popen(command(wait), cwd=folder, stdout=log, stderr=subprocess.STDOUT))
        reached(folder / "log", "begun" if folder == one else "Another run writes to")
    assert f"started in {one}, process {runs[0].pid} on " in (other / "log").read_text()
    go.touch()
    assert [run.wait(300) for run in runs] == [0, 0], (other / "log").read_text()
    said = (other / "log").read_text()
    assert "The other run has ended; starting again." in said and "begun" not in said
    assert (results / "third").read_text() == "is1\n"


@pytest.mark.slow
def test_the_lock_of_a_killed_run_is_free(tmp_path: Path) -> None:
    results = tmp_path / "results"
    end(begin(clone(tmp_path / "one", results)))
    done = snakemake(clone(tmp_path / "other", results))
    assert done.returncode == 0 and "Another run" not in done.stdout


@pytest.mark.slow
def test_where_no_lock_can_be_written_a_run_goes_on(tmp_path: Path) -> None:
    """A folder stands where the lock would be; a file system that is read-only or knows no locks gives an error too."""
    results = tmp_path / "results"
    (results / ".run.lock").mkdir(parents=True)
    assert snakemake(clone(tmp_path / "one", results)).returncode == 0


def reached(path: Path, text: str, seconds: float = 300) -> None:
    """Wait until a log says something."""
    until = time.monotonic() + seconds
    while text not in path.read_text():
        assert time.monotonic() < until, path.read_text()
        time.sleep(0.1)
