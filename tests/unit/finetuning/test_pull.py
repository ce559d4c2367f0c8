"""A pull towards the base: gradients against autograd, the distance it leaves, resumption, several processes."""

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from architectures import make
from pydantic import ValidationError

from knowshift.configuration.finetuning import Recipe
from knowshift.finetuning.loop import adamw, target_losses, train
from knowshift.finetuning.options import TrainingOptions
from knowshift.finetuning.pull import Pull
from knowshift.finetuning.saved_state import TrainingState

REPOSITORY = Path(__file__).parents[3]
RECIPE = Recipe(learning_rate=1e-3, epochs=4, schedule="constant")
EXAMPLES = [([1, *range(5 + n, 12 + 2 * n), 2], 4) for n in range(16)]


def trained(recipe: Recipe) -> tuple[torch.nn.Module, list[dict]]:
    """Train the same tiny model by a recipe."""
    model = make("llama")
    return model, list(train(model, adamw(model, recipe), EXAMPLES, recipe, 1))


def distance(model: torch.nn.Module) -> float:
    """Return the distance of a model's weights from those it had before training."""
    pairs = zip(model.parameters(), make("llama").parameters(), strict=True)
    return math.sqrt(sum(float((new - old).detach().double().square().sum()) for new, old in pairs))


def test_gradients_are_those_of_the_loss_with_the_penalty() -> None:
    model, strength = make("llama"), 0.7
    base = copy.deepcopy(model)
    pull = Pull(torch.optim.SGD(model.parameters()), strength)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.01 * (number + 1))
    plain = copy.deepcopy(model)
    target_losses(model, EXAMPLES[:4], "answer").mean().backward()
    pull.add_to_gradients()

    loss = target_losses(plain, EXAMPLES[:4], "answer").mean()
    pairs = zip(plain.parameters(), base.parameters(), strict=True)
    (loss + strength / 2 * sum((new - old.detach()).square().sum() for new, old in pairs)).backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_a_step_of_plain_descent_by_hand() -> None:
    """The pull is part of the gradient that is clipped: its norm is the one reported."""
    model, recipe = make("llama"), RECIPE.model_copy(update={"l2_sp": 3.0, "max_gradient_norm": 0.0, "epochs": 1})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    pull = Pull(optimizer, recipe.l2_sp)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02)
    moved = copy.deepcopy(model)
    row = next(train(model, optimizer, EXAMPLES[:1], recipe, 1, pull=pull))
    loss = target_losses(moved, EXAMPLES[:1], "answer").mean()
    loss.backward()
    gradients = [parameter.grad + 3.0 * 0.02 for parameter in moved.parameters() if parameter.grad is not None]
    norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
    assert row["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert row["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)  # without the penalty


def test_a_stronger_pull_leaves_the_weights_nearer() -> None:
    ends = [distance(trained(RECIPE.model_copy(update={"l2_sp": pull}))[0]) for pull in (0.0, 1.0, 10.0, 1000.0)]
    assert ends == sorted(ends, reverse=True) and len(set(ends)) == 4
    assert ends[-1] < 0.5 * ends[0]


def test_no_pull_changes_no_bit_and_keeps_nothing() -> None:
    """A loop without any pull, written out, ends in the same weights."""
    model, rows = trained(RECIPE)
    assert not Pull(adamw(model, RECIPE), 0.0)._starts
    plain = make("llama")

    class Absent:
        def add_to_gradients(self) -> None:
            """Do nothing."""

    same = list(train(plain, adamw(plain, RECIPE), EXAMPLES, RECIPE, 1, pull=Absent()))  # pyright: ignore
    assert same == rows and all(map(torch.equal, model.parameters(), plain.parameters()))


def test_an_interrupted_training_is_pulled_to_the_base_and_ends_in_the_same_bits(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"l2_sp": 5.0})
    whole, rows = trained(recipe)
    begun, state = make("llama"), TrainingState(tmp_path)
    optimizer = adamw(begun, recipe)
    training = train(begun, optimizer, EXAMPLES, recipe, 1)
    state.save(begun, optimizer, [next(training) for _ in range(3)])
    ends = {}
    for kept in (True, False):  # the base's weights, or by mistake those that were saved
        resumed = make("llama")
        again = adamw(resumed, recipe)
        pull = Pull(again, recipe.l2_sp) if kept else None
        done = state.load(resumed, again)
        following = train(resumed, again, EXAMPLES, recipe, 1, first=len(done), pull=pull)
        ends[kept] = done + list(following) == rows, all(map(torch.equal, whole.parameters(), resumed.parameters()))
    assert ends == {True: (True, True), False: (False, False)}


def test_adapters_are_not_pulled() -> None:
    with pytest.raises(ValidationError, match=r"l2_sp is 0\.1, but lora trains adapters"):
        TrainingOptions(method="lora", l2_sp=0.1)
    assert TrainingOptions(method="full", l2_sp=0.1).recipe().l2_sp == 0.1


@pytest.mark.slow  # two processes load torch
def test_two_processes_train_to_the_weights_of_one(tiny_model: Path, tmp_path: Path) -> None:
    """Each process pulls its own part."""
    worker = REPOSITORY / "tests/support/pulled_worker.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY / "scripts")}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, start in {"one": [], "two": launcher}.items():
        command = [sys.executable, *start, str(worker), str(tiny_model), str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two, free = (torch.load(tmp_path / name) for name in ("one", "two", "one.free"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=5e-5)
    apart = max(float((one[name] - free[name]).abs().max()) for name in one)
    assert apart > 5e-3  # a hundred times that: what is compared is a training that is pulled
