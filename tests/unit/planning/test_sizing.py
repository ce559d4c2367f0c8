"""How many GPUs and nodes a job gets, and by which command a training starts."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import planned
from cluster.launching import launcher
from knowshift.planning import sizing
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.parameter_counts import named_parameters, stored_parameters

REPOSITORY = Path(__file__).parents[3]
A100 = sizing.Machine(gpu_gb=80, gpus_per_node=8)
FULL = {"dtype": "float32", "compute": None, "optimizer": "adamw", "lora": {"rank": 16}}


def training_gpus(parameters: float, method: str = "full", **changes) -> tuple[int, int]:
    each = sizing.training_bytes(parameters, method, {**FULL, **changes})
    return sizing.training_gpus(sizing.gpus_for(parameters, each, A100), A100)


def test_full_fine_tuning_of_7b_does_not_fit_one_card_and_70b_needs_more_than_one_node() -> None:
    assert training_gpus(7e9) == (2, 1)  # 7e9 x 16 x 1.2 = 134 GB
    assert training_gpus(13e9) == (4, 1)  # 250 GB
    assert training_gpus(70e9) == (24, 3)  # 1,344 GB: 17 cards, in whole nodes
    assert training_gpus(135e6) == (1, 1)


def test_other_trainings_take_less() -> None:
    assert training_gpus(7e9, dtype="bfloat16") == (1, 1)  # 8 bytes a parameter
    assert training_gpus(7e9, "lora") == (1, 1)  # 7e9 x 4 x 1.2 = 34 GB, and adapters
    assert training_gpus(70e9, "lora", dtype="bfloat16") == (3, 1)
    assert sizing.training_bytes(7_000_000_000, "full", FULL | {"compute": "bfloat16"}) == 18
    assert sizing.training_bytes(7_000_000_000, "full", FULL | {"optimizer": "adamw_8bit"}) == 10
    assert sizing.training_bytes(7_000_000_000, "full", FULL | {"l2_sp": 0.1}) == 20  # the base's weights too
    adapters = sizing.training_bytes(7_000_000_000, "lora", FULL) - 4
    assert adapters == pytest.approx(16 * 2 * 16 / 4096, rel=0.05)  # the width of a 7B LLaMA is 4096
    assert sizing.training_bytes(1000, "lora", FULL | {"lora": {"rank": 4096}}) == 20  # never more than the matrix


def test_numbers_set_by_hand_come_first() -> None:
    assert sizing.training_gpus(17, A100, gpus=8) == (8, 1)
    assert sizing.training_gpus(17, A100, gpus=32) == (32, 4)
    assert sizing.training_gpus(17, A100, nodes=4) == (32, 4)
    assert sizing.training_gpus(17, A100, gpus=20, nodes=5) == (20, 5)
    assert sizing.training_gpus(0, sizing.Machine(gpus_per_node=8), nodes=2) == (0, 2)  # of CPUs


def test_inference_takes_the_width_of_its_type_and_vllm_a_power_of_two() -> None:
    assert sizing.inference_gpus(70e9, "bfloat16", "torch", A100) == 3
    assert sizing.inference_gpus(7e9, "float32", "torch", A100) == 1
    assert [sizing.inference_gpus(70e9, "float32", engine, sizing.Machine()) for engine in ("torch", "vllm")] == [0, 0]
    cards = [sizing.inference_gpus(number * 33e9, "bfloat16", "vllm", A100) for number in (1, 2, 3, 4, 5, 8)]
    assert cards == [1, 2, 4, 4, 8, 8]  # 33e9 x 2 x 1.2 = 79 GB


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("meta-llama/Llama-2-70b-hf", 70e9),
        ("Qwen/Qwen2.5-7B-Instruct", 7e9),
        ("EleutherAI/pythia-1.4b", 1.4e9),
        ("mistralai/Mixtral-8x7B-v0.1", 56e9),
        ("smollm2-135m", 135e6),
        ("owner/model-4bit", None),
        ("llama3", None),
    ],
)
def test_a_name_tells_the_number_of_parameters(name: str, parameters: float | None) -> None:
    assert named_parameters(name) == parameters


def test_parameters_are_counted_from_the_heads_of_files(tmp_path: Path) -> None:
    assert stored_parameters(tmp_path) is None
    weights = {"a": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.bfloat16)}
    save_file(weights, tmp_path / "model.safetensors", {"x": "y"})
    save_file(
        {"c": torch.zeros(9)}, tmp_path / "consolidated.safetensors"
    )  # the same once more, as some repositories have it
    assert stored_parameters(tmp_path) == 15 + 7
    (tmp_path / "model.safetensors").rename(tmp_path / "first.safetensors")
    shards = {"a": "first.safetensors", "c": "consolidated.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert stored_parameters(tmp_path) == 15 + 7 + 9
    (tmp_path / "first.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(KnowshiftError, match="git lfs pull"):
        stored_parameters(tmp_path)


def test_memory_is_shared_out_over_nodes() -> None:
    assert sizing.megabytes(1_000_000_000, 20) == 21_500
    assert sizing.megabytes(1_000_000_000, 20, nodes=2) == 11_500


def test_a_training_starts_as_one_process_several_or_on_several_nodes(tmp_path: Path) -> None:
    assert launcher(1) == "python" and launcher(0) == "python"
    assert launcher(4) == "torchrun --standalone --nproc-per-node 4"
    command = launcher(8, nodes=3, threads=16, gpus=8)
    assert command.startswith("srun --nodes 3 --ntasks 3 --ntasks-per-node 1 --cpus-per-task 16")
    # What a node runs, with stand-ins for srun and torchrun that print what they are given.
    (tmp_path / "srun").write_text('#!/bin/sh\nwhile [ "$1" != bash ]; do shift; done\nexec "$@"\n')
    (tmp_path / "torchrun").write_text("#!/usr/bin/env python3\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    for name in ("srun", "torchrun"):
        (tmp_path / name).chmod(0o755)
    node = {"SLURM_NODEID": "2", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7", "SLURM_JOB_ID": "40123"}
    done = subprocess.run(
        ["bash", "-c", f"{command} train.py --spec '{{\"a b\": 1}}'"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **node},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [
        "--nnodes",
        "3",
        "--nproc-per-node",
        "8",
        "--node-rank",
        "2",
        "--master-addr",
        "10.0.0.7",
        "--master-port",
        "10123",
        "train.py",
        "--spec",
        '{"a b": 1}',
    ]


def dry_run(folder: Path, engine: str, dtype: str | None = None, **machine: object) -> tuple[dict[str, str], str]:
    """Commands of the jobs that would train and ask a 70B model, by script, and what Snakemake said."""
    settings = planned.configuration()
    source = {"hub": "meta-llama/Llama-2-70b-hf", "revision": "0" * 40}
    settings["models"] = {"large": {"source": source, "dtype": dtype}}
    settings["mastery"]["engine"] = settings["evaluation"]["engine"] = engine
    settings["restoration"] = []
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "profile").mkdir(exist_ok=True)
    profile = {"cores": 1, "default-resources": machine, "set-resources": {"finetune": {"save_every": 7}}}
    (folder / "profile/config.yaml").write_text(yaml.safe_dump(profile))
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(REPOSITORY / "Snakefile"),
        "--workflow-profile",
        "profile",
    ]
    targets = ["results/large/runs/full-mixed-100-s1/delta.json", "results/large/base_evaluation/outcomes.parquet"]
    done = subprocess.run([*command, "-n", "-p", *targets], cwd=folder, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    commands = re.findall(r"Shell command: (.*/scripts/(\w+)\.py .*)$", said, re.MULTILINE)
    return {script: command for command, script in commands}, said


@pytest.mark.slow
def test_rules_take_what_their_model_needs(tmp_path: Path) -> None:
    commands, said = dry_run(tmp_path, "vllm", gpu_gb=80, gpus_per_node=8)
    assert {"finetune", "probe_mastery", "evaluate_base", "resolve_model"} <= commands.keys(), said[-3000:]
    # 17 GPUs hold the training, so it takes three whole nodes.
    assert commands["finetune"].startswith(launcher(8, nodes=3, threads=1, gpus=8) + " ")
    assert "--save-every 7 " in commands["finetune"]  # as the profile says
    assert "--gpus 8 " in commands["evaluate_base"]  # 5 hold it; a power of two
    assert "--gpus 4 " in commands["probe_mastery"]  # in bfloat16

    commands, _ = dry_run(tmp_path, "vllm", "bfloat16", gpu_gb=80, gpus_per_node=8)  # the model's own type
    assert "--gpus 4 " in commands["evaluate_base"]
    commands, _ = dry_run(tmp_path, "vllm", gpu_gb=80, gpus_per_node=8, gpus_of="finetune=8 large.evaluate_base=2")
    assert commands["finetune"].startswith("torchrun --standalone --nproc-per-node 8 ")
    assert "--gpus 2 " in commands["evaluate_base"] and "--gpus 4 " in commands["probe_mastery"]
    commands, _ = dry_run(tmp_path, "torch", gpu_gb=0)
    assert commands["finetune"].startswith("python ") and "--gpus 0 " in commands["evaluate_base"]


def test_what_no_job_could_do_is_refused_when_the_configuration_is_read(tmp_path: Path) -> None:
    _, said = dry_run(tmp_path, "torch", gpu_gb=80, gpus_per_node=8)
    assert "probe_mastery: large has 70 billion parameters, which need 3 GPUs of 80 GB in bfloat16" in said
    assert "choose engine: vllm" in said
    _, said = dry_run(tmp_path, "vllm", gpu_gb=80, gpus_of="finetun=2")
    assert "profile: gpus_of: finetun=2 is not RULE=NUMBER or MODEL.RULE=NUMBER" in said
