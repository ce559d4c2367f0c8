"""Fine-tuning: the loop against a plain one, the schedule, and the same weights from one process and from two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from knowshift.artifacts import write_table
from knowshift.draws import ORDERS
from knowshift.models import load_model
from knowshift.training import Recipe, batches, learning_rate_at, summed_loss, train

REPOSITORY = Path(__file__).parents[1]
RECIPE = Recipe(1e-3, "cosine", 0.0, 8, 1, 0.0, 0.9, 0.999, 1.0, "answer")


def examples(count: int = 20) -> list[tuple[list[int], int]]:
    draw = torch.Generator().manual_seed(0)
    sizes = torch.randint(4, 12, (count,), generator=draw).tolist()
    return [([1, *torch.randint(3, 200, (size,), generator=draw).tolist(), 2], size - 1) for size in sizes]


def test_the_schedule() -> None:
    rates = [learning_rate_at(step, 10, Recipe(**{**RECIPE.__dict__, "warmup": 0.2})) for step in range(10)]
    assert rates[:3] == [5e-4, 1e-3, 1e-3]
    assert sorted(rates[2:], reverse=True) == rates[2:] and rates[-1] > 0
    assert learning_rate_at(5, 10, RECIPE) == pytest.approx(5e-4)
    assert learning_rate_at(5, 10, Recipe(**{**RECIPE.__dict__, "schedule": "linear"})) == pytest.approx(5e-4)


def test_every_example_is_seen_once_per_epoch() -> None:
    plan = batches(20, Recipe(**{**RECIPE.__dict__, "epochs": 3}), 1)
    assert [len(batch) for batch in plan] == [8, 8, 4] * 3
    epochs = [[index for batch in plan[start : start + 3] for index in batch] for start in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_the_loss_is_that_of_transformers(tiny_model: Path, loss_on: str) -> None:
    model = load_model(tiny_model, "float32")
    batch = examples(5)
    ours, count = summed_loss(model, batch, loss_on)
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in batch])
    labels = torch.tensor(
        [
            [-100] * (start if loss_on == "answer" else 1)
            + row[start if loss_on == "answer" else 1 :]
            + [-100] * (longest - len(row))
            for row, start in batch
        ]
    )
    theirs = model(
        ids, labels=labels, attention_mask=(torch.arange(longest) < torch.tensor([[len(r)] for r, _ in batch])).long()
    ).loss
    assert float(ours.detach()) / count == pytest.approx(float(theirs.detach()), rel=1e-5)


def test_training_is_deterministic_and_learns(tiny_model: Path) -> None:
    ends = []
    for _ in range(2):
        model = load_model(tiny_model, "float32")
        rows = list(train(model, examples(), Recipe(**{**RECIPE.__dict__, "epochs": 20}), 1))
        ends.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert [row["step"] for row in rows] == list(range(1, 61))


def test_two_processes_shard_and_train_to_the_same_weights(tiny_model: Path, tmp_path: Path) -> None:
    question = "Where does hometrain{n} live ?"
    rows = [
        {"fact_id": f"f{n}", "topic": "home", "domain": "in_domain", "split": "train", "subject": f"hometrain{n}",
         "object": "Rome", "aliases": [], "question": question.format(n=n), "also_in_test": False, "level": 1}
        for n in range(12)
    ]  # fmt: skip
    write_table(tmp_path / "order.parquet", pa.Table.from_pylist(rows, schema=ORDERS), ORDERS)
    script = [str(REPOSITORY / "scripts/finetune.py"), "--model", str(tiny_model), "--order", str(tmp_path / "order.parquet"),
              "--prompt", str(REPOSITORY / "resources/prompt.yaml"), "--spec", json.dumps({"learning_rate": 1e-3, "epochs": 2}),
              "--threads", "1", "--device", "cpu"]  # fmt: skip
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in {"one": [], "two": torchrun}.items():
        outputs = ["--output", str(tmp_path / name), "--steps", str(tmp_path / f"{name}.parquet")]
        done = subprocess.run([sys.executable, *launcher, *script, *outputs], capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=2e-5)
    losses = [pq.read_table(tmp_path / f"{name}.parquet")["loss"].to_pylist() for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert (
        load_model(tmp_path / "two", "float32").num_parameters() == load_model(tiny_model, "float32").num_parameters()
    )
