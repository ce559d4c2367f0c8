"""What Snakemake plans for cells that stop early: a delta of another's training, and what follows of it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import planned
import tiny
from edits import NOTHING
from workflow import Jobs, configure, each, would_run

HALF, THIRD = ({"method": "full", "stop_at": share} for share in (0.5, 0.3))


def grid(folder: Path, methods: list[str], **variants: dict) -> None:
    """Give the experiment in a folder other methods, on level 0 alone."""
    finetuning = configure(folder)["finetuning"]
    configure(folder, finetuning={**finetuning, "methods": methods, "variants": variants, "method_data": {}})


@pytest.fixture
def finished(tiny_facts: Path, tmp_path: Path) -> Path:
    """A folder with an experiment that is finished, in files that are empty: one cell, and one that stops it early."""
    content = tiny.configuration(tiny_facts, tmp_path) | {"results": "results", "restoration": [], "exports": []}
    content["facts"]["source"] = "archive"
    content["models"]["tiny"].pop("instruct")
    content["finetuning"] |= {"data": ["level0"], "sizes": [8], "seeds": [1]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    grid(tmp_path, ["full", "half"], half=HALF)
    planned.know_mastery(content, tmp_path, {"tiny": {"train": [150] * 5, "test": [10] * 5, "test_ood": [5] * 5}})
    planned.finish(tmp_path)
    for checkpoint in tmp_path.glob("results/tiny/runs/*/checkpoint"):  # it is temporary
        shutil.rmtree(checkpoint)
    return tmp_path


def cells(jobs: Jobs) -> Jobs:
    """The jobs of single cells."""
    return {rule: runs for rule, runs in jobs.items() if any("-s1" in run for run in runs)}


def made(trained: list[str], runs: list[str]) -> Jobs:
    """The jobs that train some cells and make what is asked of some runs."""
    jobs = {rule: each("tiny", runs) for rule in ("diff_weights", "evaluate", "measure_divergence")}
    return {**jobs, "finetune": each("tiny", trained), "measure_changes": each("tiny", runs, "/transformer")}


def test_a_stop_is_one_more_delta_of_the_training_that_it_stops(finished: Path) -> None:
    full, half, third, adapted = (f"{name}-level0-8-s1" for name in ("full", "half", "third", "adapted"))
    assert would_run(finished) == NOTHING
    assert (finished / f"results/tiny/runs/{half}/delta.json").exists()
    assert not (finished / f"results/tiny/runs/{half}/steps.parquet").exists()

    grid(finished, ["full", "half"], half={**HALF, "stop_at": 0.4})  # another share: another model
    assert cells(would_run(finished)) == made([full], [full, half])
    grid(finished, ["full", "half", "third"], half=HALF, third=THIRD)  # one more: the checkpoint is needed again
    assert cells(would_run(finished)) == made([full], [full, half, third])
    grid(finished, ["full", "half", "adapted"], half=HALF, adapted={"method": "lora", "stop_at": 0.5})
    assert cells(would_run(finished)) == made(["lora-level0-8-s1"], [adapted])
    grid(finished, ["half"], half=HALF)  # the training may be outside the grid
    assert cells(would_run(finished)) == {}
    text = planned.dry_run(finished, "--forcerun", "finetune", "--printshellcmds")
    assert re.findall(r"--stops '(.*?)'", text) == ["[0.5]"]
    grid(finished, ["full"], half=HALF)
    assert cells(would_run(finished)) == {}
    text = planned.dry_run(finished, "--forcerun", "finetune", "--printshellcmds")
    assert re.findall(r"--stops '(.*?)'", text) == ["[]"]


def test_a_stop_that_nothing_asks_for_is_no_target(finished: Path) -> None:
    grid(finished, ["full", "half"], half=HALF, third=THIRD)
    for run, said in {
        "third-level0-8-s1": "third-level0-8-s1: neither the grid nor an export asks for it",
        "half-level0-4-s1": "so the training of full-level0-4-s1 does not keep it; add it under finetuning",
    }.items():
        command = planned.command("--dry-run", f"results/tiny/runs/{run}/outcomes.parquet")
        done = subprocess.run(command, cwd=finished, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and said in done.stdout + done.stderr and "Traceback" not in done.stderr
    configure(finished, exports=[{"model": "tiny", "run": "third-level0-8-s1", "percent": 20}])
    text = planned.dry_run(finished, "export", "--printshellcmds")
    assert re.findall(r"--stops '(.*?)'", text) == ["[0.3,0.5]"] and "/checkpoint --stop 0.3 " in text
