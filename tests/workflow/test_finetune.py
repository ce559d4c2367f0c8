"""Tests of scripts/finetune.py as jobs start it: interrupted, over two processes, over two nodes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import tiny
from knowshift.finetuning.schemas import ORDERS
from knowshift.runtime.parquet import write_table

REPOSITORY = Path(__file__).parents[2]
PROMPT = REPOSITORY / "resources/prompt.yaml"
SETTINGS = ["--learning-rate", "1e-3", "--threads", "1", "--device", "cpu", "--prompt", str(PROMPT)]
LONG = ["--epochs", "60"]  # long enough to be hit


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An order of 40 facts."""
    rows = [
        {
            "fact_id": name,
            "topic": topic,
            "domain": "in_domain",
            "split": split,
            "subject": name,
            "object": object_,
            "aliases": [],
            "question": tiny.TOPICS[topic][0].replace("[X]", name),
            "also_in_test": False,
            "level": 1,
        }
        for topic, split, name, object_, _ in tiny.facts()
        if (topic, split) == ("home", "train")
    ]
    path = tmp_path_factory.mktemp("order") / "order.parquet"
    write_table(path, pa.Table.from_pylist(rows, schema=ORDERS), ORDERS)
    return path


class Training:
    """One output folder of the script, in which it can be started again and again."""

    def __init__(self, folder: Path, model: Path, order: Path, *more: str) -> None:
        folder.mkdir(exist_ok=True)
        self.checkpoint, self.steps = folder / "checkpoint", folder / "steps.parquet"
        self.saved = folder / ".checkpoint.unfinished/steps.json"
        self.arguments = [str(REPOSITORY / "scripts/finetune.py"), "--model", str(model), "--order", str(order)]
        self.arguments += [*SETTINGS, *more]
        self.arguments += ["--output", str(self.checkpoint), "--steps", str(self.steps)]

    def start(self, *launcher: str) -> subprocess.Popen[str]:
        """Start the script, by a launcher if one is given."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *launcher, *self.arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)

    def run(self, *launcher: str) -> str:
        """Run the script to its end, assert that it succeeded, and return what it printed."""
        process = self.start(*launcher)
        output, _ = process.communicate()
        assert process.returncode == 0, output[-3000:]
        return output

    def interrupt(self, with_signal: int, *launcher: str) -> tuple[int, str]:
        """Start the script, send the signal once a step has been saved, and wait for the end.

        Returns:
            the exit status, and what was printed.
        """
        process = self.start(*launcher)
        while not self.saved.exists():
            assert process.poll() is None, process.communicate()[0][-3000:]
            time.sleep(0.02)
        process.send_signal(with_signal)
        output, _ = process.communicate()
        assert not self.checkpoint.exists() and self.saved.exists(), output
        return process.returncode, output

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The tensors of the checkpoint, by name."""
        return load_file(self.checkpoint / "model.safetensors")


def torchrun(*options: str) -> list[str]:
    """Return the arguments with which Python acts as torchrun."""
    return ["-m", "torch.distributed.run", *options]


def same(one: Training, two: Training) -> bool:
    """Say whether two trainings ended in the same weights and tables, bit for bit."""
    first, second = one.weights, two.weights
    equal = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    return equal and one.steps.read_bytes() == two.steps.read_bytes()


@pytest.fixture(scope="module")
def whole(tiny_model: Path, order: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A training that nothing interrupts."""
    training = Training(tmp_path_factory.mktemp("whole"), tiny_model, order, *LONG)
    training.run()
    return training


def test_an_interrupted_training_ends_in_the_same_weights(
    whole: Training, tiny_model: Path, order: Path, tmp_path: Path
) -> None:
    training = Training(tmp_path, tiny_model, order, *LONG, "--save-every", "0")
    status, output = training.interrupt(signal.SIGTERM)
    assert status == 75 and "start the job again to go on" in output
    status, _ = training.interrupt(signal.SIGKILL)  # it has gone on, and is hit once more without warning
    assert status == -signal.SIGKILL
    assert "going on after step" in training.run()
    assert same(training, whole)
    assert not list(tmp_path.glob(".*.unfinished"))


def test_what_was_saved_with_other_options_is_not_continued(
    whole: Training, tiny_model: Path, order: Path, tmp_path: Path
) -> None:
    Training(tmp_path, tiny_model, order, *LONG, "--save-every", "0", "--batch-size", "4").interrupt(signal.SIGKILL)
    training = Training(tmp_path, tiny_model, order, *LONG)
    assert "going on" not in training.run()
    assert same(training, whole)


def close(one: Training, two: Training) -> None:
    """Assert that two trainings agree up to rounding."""
    losses = [pq.read_table(training.steps)["loss"].to_pylist() for training in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, tensor in one.weights.items():
        torch.testing.assert_close(tensor, two.weights[name], rtol=0, atol=5e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_processes_train_to_the_weights_of_one(tiny_model: Path, order: Path, tmp_path: Path, method: str) -> None:
    options = ["--epochs", "3", "--method", method]
    one, two = (Training(tmp_path / name, tiny_model, order, *options) for name in ("one", "two"))
    one.run()
    two.run(*torchrun("--standalone", "--nproc-per-node", "2"))
    close(one, two)
    model = AutoModelForCausalLM.from_pretrained(two.checkpoint)
    assert dict(model.named_parameters()).keys() == two.weights.keys() and (two.checkpoint / "tokenizer.json").exists()


def test_two_processes_that_are_killed_go_on(tiny_model: Path, order: Path, tmp_path: Path) -> None:
    launcher = torchrun("--standalone", "--nproc-per-node", "2")
    options = ["--epochs", "20", "--save-every", "0"]
    whole, training = (Training(tmp_path / name, tiny_model, order, *options) for name in ("whole", "killed"))
    whole.run(*launcher)
    training.interrupt(signal.SIGTERM, *launcher)  # torchrun passes it on to its processes
    assert "going on after step" in training.run(*launcher)
    assert same(training, whole)


def test_two_processes_keep_the_models_of_earlier_steps(tiny_model: Path, order: Path, tmp_path: Path) -> None:
    stops, launcher = ["--stops", "[0.5]"], torchrun("--standalone", "--nproc-per-node", "2")
    one, two = (Training(tmp_path / name, tiny_model, order, "--epochs", "3", *stops) for name in ("one", "two"))
    plain = Training(tmp_path / "plain", tiny_model, order, "--epochs", "3")
    one.run()
    for training in (two, plain):
        training.run(*launcher)
    assert same(two, plain)
    kept = [load_file(training.checkpoint / "stops/0.5/model.safetensors") for training in (one, two)]
    for name, tensor in kept[0].items():
        torch.testing.assert_close(tensor, kept[1][name], rtol=0, atol=5e-5)
    assert any(not torch.equal(tensor, two.weights[name]) for name, tensor in kept[1].items())


def test_two_nodes_train_to_the_weights_of_one(tiny_model: Path, order: Path, tmp_path: Path) -> None:
    one, two = (Training(tmp_path / name, tiny_model, order, "--epochs", "3") for name in ("one", "two"))
    one.run()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", address, "--rdzv-id", "test"]
    meet += ["--nnodes", "2", "--nproc-per-node", "1"]
    nodes = [two.start(*torchrun(*meet)) for _ in range(2)]
    outputs = [node.communicate()[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    close(one, two)


def test_no_process_loads_the_whole_model(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=1001,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=16,
        num_attention_heads=8,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path, max_shard_size="60MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    worker = REPOSITORY / "tests/support/sharded_worker.py"
    command = [sys.executable, *torchrun("--standalone", "--nproc-per-node", "2"), str(worker), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY / "scripts")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
