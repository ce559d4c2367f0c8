"""Tests of the workflow on a real SLURM cluster of two nodes on this machine, through all faults that a long run meets.

    make test-slurm

Training and evaluation are so short here that no fault would hit them by chance: a job that a fault is meant for is
stopped (SIGSTOP) when it has saved something, and SLURM wakes it when it ends it, as it does any job. The results must
have the bytes of a run on this machine without a cluster.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

import tiny
from slurm_jobs import Holding, Started, Workflow, cluster, environment, jobs_of, queue

REPOSITORY = Path(__file__).parents[2]
RUNS = PREEMPTED, CANCELLED, LIMITED = "full-mixed-8-s1", "full-mixed-8-s2", "full-mixed-8-s3"
CHUNKS = {"probe_mastery": {"chunk": 16}, "evaluate": {"chunk": 16}}  # many saves

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A cluster that is up."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs envs/slurm.lock: make test-slurm")
    cluster("start")
    yield
    cluster("stop")


def edited_profile(folder: Path, **machine: object) -> dict:
    """Return profiles/slurm as a user edits it for this cluster, with more default resources."""
    profile = yaml.safe_load((REPOSITORY / "profiles/slurm/config.yaml").read_text())
    profile["default-resources"] |= {"slurm_partition": "work", "gpu_gb": 0, **machine}
    for resources in profile["set-resources"].values():
        resources["slurm_partition"] = "work"
        resources.pop("slurm_extra", None)  # limits are shorter here than the time it gives to save in
    limit = f"attempt * (2 if wildcards.run == '{LIMITED}' else 20)"  # minutes
    profile["set-resources"]["finetune"] |= {"runtime": limit, "save_every": 0}
    for rule, resources in CHUNKS.items():
        profile["set-resources"][rule] = profile["set-resources"][rule] | resources
    del profile["set-threads"]
    profile |= {"latency-wait": 10, "retries": 5}
    return profile | {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 1}


@pytest.fixture(scope="module")
def configuration(tiny_model: Path, tiny_facts: Path) -> dict:
    """The tiny experiment, with three runs that train long enough to be interrupted."""
    content = tiny.configuration(tiny_facts, tiny_model)
    content["models"]["tiny"].pop("instruct")
    content["facts"] |= {"in_domain": ["home"], "out_of_domain": ["job"]}
    content["finetuning"] |= {"methods": ["full"], "data": ["mixed"], "sizes": [8], "seeds": [1, 2, 3], "epochs": 100}
    content["finetuning"].pop("method_data")
    content["evaluation"]["per_level"] = {"dev": None, "test": None, "test_ood": None}
    content["restoration"] = [{"seeds": [1], "percents": [20]}]
    return content | {"exports": []}


@pytest.fixture(scope="module")
def local(configuration: dict, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The experiment, run on this machine without a cluster."""
    profile = yaml.safe_load((REPOSITORY / "profiles/default/config.yaml").read_text()) | {"set-resources": CHUNKS}
    workflow = Workflow(tmp_path_factory.mktemp("local"), configuration, profile)
    workflow.run()
    return workflow


def restarted_finetuning(workflow: Workflow, run: str) -> int:
    """Return the step after which an interrupted fine-tuning went on."""
    log = (workflow.folder / f"results/logs/finetune/tiny.{run}.log").read_text()
    return int(re.search(r"going on after step (\d+)", log)[1])


def chunks(workflow: Workflow, name: str) -> dict[str, int]:
    """Map the finished chunks of an output of the probe to the times at which they were written (ns)."""
    found = (workflow.results / "completions").glob(f".{name}.unfinished/*.parquet")
    return {path.name: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def survived(
    slurm: None, configuration: dict, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Workflow]:
    """The experiment, run on the cluster through all faults; each is seen to have happened."""
    folder = tmp_path_factory.mktemp("slurm")
    workflow = Workflow(folder, configuration, edited_profile(folder))
    holding = Holding(folder)
    started: list[Started] = []
    began = time.monotonic()

    def happened(what: str) -> None:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)

    def probe(unit: str) -> str:
        output = f"results/tiny/completions/{unit}.parquet"
        holding.hold(output, f"results/tiny/completions/.{unit}.parquet.unfinished/*.parquet")
        return output

    def checkpoint(run: str) -> str:
        output = f"results/tiny/runs/{run}/checkpoint"
        holding.hold(output, f"results/tiny/runs/{run}/.checkpoint.unfinished/steps.json")
        return output

    try:
        started.append(first := workflow.start())
        holding.snakemake = first
        # A node loses its power while a probe runs there, another node loses its slurmd alone, the controller restarts.
        dying, leaving = probe("home.train"), probe("home.test")
        holding.held(dying)
        process, before = holding.stopped[dying], chunks(workflow, "home.train.parquet")
        node = queue()[holding.running("probe_mastery", "home_train")][1]
        cluster("node-dies", node)
        happened(f"{node} died with a probe that had finished {len(before)} chunks")
        cluster("controller-restarts")
        happened("the controller restarted")
        holding.until(lambda: jobs_of("probe_mastery", "home_train", "PENDING"))
        happened("SLURM put the probe back into the queue")
        cluster("node-returns", node)
        holding.held_again(dying, process)
        after = chunks(workflow, "home.train.parquet")
        assert before and before.items() <= after.items(), "what was finished before the node died was made again"
        holding.release(dying)
        happened("the probe went on where it was")

        holding.held(leaving)
        process, before = holding.stopped[leaving], chunks(workflow, "home.test.parquet")
        node = queue()[holding.running("probe_mastery", "home_test")][1]
        cluster("node-leaves", node)
        happened(f"slurmd of {node} was stopped while a probe runs there")
        holding.until(lambda: jobs_of("probe_mastery", "home_test", "PENDING"))
        cluster("node-returns", node)
        happened("SLURM put the probe back into the queue, and slurmd was started again")
        holding.held_again(leaving, process)
        after = chunks(workflow, "home.test.parquet")
        assert before and before.items() <= after.items(), "what was finished before the node was lost was made again"
        holding.release(leaving)
        happened("the probe went on where it was")

        # Fine-tuning: one is pre-empted, one cancelled, one runs into its time limit.
        outcomes = f"results/tiny/runs/{CANCELLED}/outcomes.parquet"
        holding.hold(outcomes, f"results/tiny/runs/{CANCELLED}/.outcomes.parquet.unfinished/*.parquet")
        preempted, cancelled, limited = (checkpoint(run) for run in RUNS)
        holding.held(preempted)
        job = holding.running("finetune", PREEMPTED)
        urgent = ["sbatch", "--parsable", "--partition", "urgent", "--exclusive", "--nodelist", queue()[job][1]]
        urgent += ["--mem", "100", "--output", "/dev/null", "--wrap", "sleep 3"]
        subprocess.run(urgent, check=True, capture_output=True)
        holding.until(lambda: jobs_of("finetune", PREEMPTED, "PENDING"))
        happened("a fine-tuning was pre-empted")
        holding.release(preempted)
        holding.held(cancelled)
        job = holding.running("finetune", CANCELLED)
        subprocess.run(["scancel", job], check=True)
        holding.until(lambda: job not in queue("--states", "RUNNING,COMPLETING"))
        holding.release(cancelled)
        happened("a fine-tuning was cancelled")
        holding.held(limited)
        holding.until(lambda: "TIMEOUT" in first.said)
        holding.release(limited)
        happened("a fine-tuning ran into its time limit")
        log = folder / f"results/logs/finetune/tiny.{LIMITED}.log"
        holding.until(lambda: log.exists() and "going on after step" in log.read_text())
        happened("and went on after its last step")

        # Snakemake is killed while an evaluation runs.
        holding.held(outcomes)
        first.kill()
        happened("Snakemake was killed")
        orphan = holding.running("evaluate", CANCELLED)
        started.append(second := workflow.start("--nolock"))  # which does not wait for the jobs of the first
        holding.snakemake = second
        log = folder / f"results/logs/evaluate/tiny.{CANCELLED}.log"
        holding.until(lambda: log.exists() and "another copy of this job holds" in log.read_text())
        happened("another Snakemake started a second copy of an evaluation, which waits for the first")
        second.kill()
        assert len(jobs_of("evaluate", CANCELLED)) == 2 and orphan in queue(), "jobs live on"
        workflow.run("--unlock")
        started.append(third := workflow.start())
        holding.snakemake = third
        holding.until(lambda: "still run" in third.said)
        happened("both were killed, and a third Snakemake waits for their jobs")
        holding.release(outcomes)
        holding.until((folder / outcomes).exists)
        written = (folder / outcomes).stat().st_ino  # Snakemake may touch it
        holding.until(lambda: "has been made by another copy" in log.read_text())
        happened("the first copy ended, and the second found the work done")
        said = third.end()
        happened("the third Snakemake ended")
        assert (folder / outcomes).stat().st_ino == written, "the finished evaluation was made again"
        assert f"Finished by a job that outlived its Snakemake: {outcomes}" in said
        assert "CANCELLED" in first.said
        yield workflow
    finally:
        holding.close()
        for snakemake in started:
            snakemake.kill()


def test_a_run_that_survived_every_fault_has_the_bytes_of_a_local_run(survived: Workflow, local: Workflow) -> None:
    def content(workflow: Workflow) -> dict[str, bytes]:
        root = workflow.folder / "results"
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
            and path.name.partition(".")[0] not in ("speed", "costs", "report")  # they hold times
            and path.relative_to(root).parts[0] not in ("logs", "benchmarks")
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        }

    expected, found = content(local), content(survived)
    assert found.keys() == expected.keys() and len(expected) > 50
    assert [name for name in expected if found[name] != expected[name]] == []


def test_interrupted_trainings_went_on(survived: Workflow) -> None:
    assert all(restarted_finetuning(survived, run) > 0 for run in (PREEMPTED, CANCELLED))  # LIMITED was seen to
    assert not list(survived.results.rglob(".*.unfinished"))


def test_a_second_run_does_nothing_and_an_edit_is_noticed(survived: Workflow) -> None:
    assert "Nothing to be done" in survived.run("--dry-run")
    path = survived.folder / "config.yaml"
    original = path.read_text()
    edited = yaml.safe_load(original)
    edited["evaluation"]["max_new_tokens"] = 3
    try:
        path.write_text(yaml.safe_dump(edited))
        stale = survived.run("--dry-run", "--quiet", "rules")
    finally:
        path.write_text(original)
    assert re.search(rf"^evaluate +{len(RUNS)}$", stale, re.MULTILINE), "of what an orphan finished too"


@pytest.fixture
def copy(survived: Workflow, configuration: dict, tmp_path: Path) -> Callable[..., Workflow]:
    """A copy of the finished experiment, in which a run is trained again on another machine."""

    def made(**machine: object) -> Workflow:
        folder = tmp_path / "copy"
        shutil.copytree(survived.folder, folder, ignore=shutil.ignore_patterns("profile", "*.log"))
        profile = edited_profile(folder, **machine)
        return Workflow(folder, configuration, profile)

    return made


def trained_with(
    workflow: Workflow, tmp_path: Path
) -> tuple[dict[str, torch.Tensor], list[float], list[str], list[str]]:
    """Train a run again.

    Returns:
        its weights; its loss at each step; the node on which each torchrun was started, and the GPUs that it saw.
    """
    stand_in = tmp_path / "bin/torchrun"  # notes what it is given, and does it
    stand_in.parent.mkdir()
    stand_in.write_text(
        f'#!/bin/sh\necho "$SLURMD_NODENAME|$CUDA_VISIBLE_DEVICES|$*" >> {tmp_path}/started\n'
        f'exec {Path(sys.executable).parent}/torchrun "$@"\n'
    )
    python = stand_in.with_name("python")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for program in (stand_in, python):
        program.chmod(0o755)
    run = workflow.results / "runs" / PREEMPTED
    for output in ("steps.parquet", "speed.parquet", ".checkpoint.done"):
        (run / output).unlink()
    workflow.start("--notemp", f"results/tiny/runs/{PREEMPTED}/steps.parquet", first_in_path=stand_in.parent).end()
    started = [line.split("|", 2) for line in (tmp_path / "started").read_text().splitlines()]
    losses = pq.read_table(run / "steps.parquet")["loss"].to_pylist()
    weights = load_file(run / "checkpoint/model.safetensors")
    return weights, losses, [row[0] for row in started], [row[1] for row in started]


@pytest.fixture(scope="module")
def one_process(
    survived: Workflow, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The weights and the losses of the same run, trained by one process."""
    folder = tmp_path_factory.mktemp("one")
    restored = folder / "restored"
    run = survived.results / "runs" / PREEMPTED
    command = [sys.executable, str(REPOSITORY / "scripts/export_model.py"), "--base", str(survived.results / "base")]
    command += ["--delta", str(run / "delta"), "--percent", "0", "--output", str(restored)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    return load_file(restored / "model.safetensors"), pq.read_table(run / "steps.parquet")["loss"].to_pylist()


def agree(
    one: tuple[dict[str, torch.Tensor], list[float]], weights: dict[str, torch.Tensor], losses: list[float]
) -> None:
    """Assert that losses and weights are those of one process, up to rounding."""
    assert losses == pytest.approx(one[1], rel=1e-3, abs=1e-5)
    assert weights.keys() == one[0].keys()
    for name, tensor in one[0].items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=5e-4)


def test_two_gpus_reach_a_job_which_trains_with_two_processes(
    copy: Callable[..., Workflow], one_process: tuple, tmp_path: Path
) -> None:
    workflow = copy(gpu_gb=80, gpus_per_node=2, gpus_of="finetune=2")
    weights, losses, nodes, gpus = trained_with(workflow, tmp_path)
    assert len(nodes) == 1 and gpus == ["0,1"]
    agree(one_process, weights, losses)


def test_two_nodes_with_a_gpu_each_train_together(
    copy: Callable[..., Workflow], one_process: tuple, tmp_path: Path
) -> None:
    workflow = copy(gpu_gb=80, gpus_per_node=1, gpus_of="finetune=2")
    weights, losses, nodes, gpus = trained_with(workflow, tmp_path)
    assert sorted(nodes) == ["node1", "node2"] and gpus == ["0", "0"]
    agree(one_process, weights, losses)
