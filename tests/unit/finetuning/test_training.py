"""Fine-tuning: the loss against transformers', learning rates, order of examples, adapters against peft's merging."""

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from knowshift.configuration.finetuning import LoraSettings, Recipe
from knowshift.finetuning.checkpoint import Checkpoint
from knowshift.finetuning.loop import adamw, can_pack, target_losses, train
from knowshift.finetuning.lora import ADAPTER, add_adapters, initialise_adapters
from knowshift.finetuning.saved_state import TrainingState
from knowshift.finetuning.schedule import batches, learning_rate_at
from knowshift.models.loading import load_model
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.tensorboard import tensorboard

RECIPE = Recipe(learning_rate=1e-3)


def examples(count: int = 20) -> list[tuple[list[int], int]]:
    draw = torch.Generator().manual_seed(0)
    sizes = torch.randint(4, 12, (count,), generator=draw).tolist()
    return [([1, *torch.randint(3, 200, (size,), generator=draw).tolist(), 2], size - 1) for size in sizes]


def test_the_schedule() -> None:
    rates = [learning_rate_at(step, 10, RECIPE.model_copy(update={"warmup": 0.2})) for step in range(10)]
    assert rates[:3] == [5e-4, 1e-3, 1e-3]
    assert sorted(rates[2:], reverse=True) == rates[2:] and rates[-1] > 0
    assert learning_rate_at(5, 10, RECIPE) == pytest.approx(5e-4)
    assert learning_rate_at(5, 10, RECIPE.model_copy(update={"schedule": "linear"})) == pytest.approx(5e-4)


def test_every_example_is_seen_once_per_epoch() -> None:
    plan = batches(20, RECIPE.model_copy(update={"epochs": 3}), 1)
    assert [len(batch) for batch in plan] == [8, 8, 4] * 3
    epochs = [[index for batch in plan[start : start + 3] for index in batch] for start in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_the_loss_is_that_of_transformers(tiny_model: Path, loss_on: str, packed: bool) -> None:
    model = load_model(tiny_model, "float32")
    batch = examples(5)
    ours = target_losses(model, batch, loss_on, packed).sum()
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
    count = int((labels != -100).sum())
    assert float(ours.detach()) / count == pytest.approx(float(theirs.detach()), rel=1e-5)


def test_a_model_that_mixes_the_examples_of_a_row_is_found_out(tiny_model: Path) -> None:
    model = load_model(tiny_model, "float32")
    assert can_pack(model, examples(), "answer")
    assert can_pack(model, examples(1), "answer")
    # What a recurrent layer would do: every position sees a little of the sum of all before it in its row.
    share = [1.0]
    model.get_decoder().layers[0].register_forward_hook(
        lambda module, inputs, output: output + share[0] * output.cumsum(1)
    )
    for share[0] in (1.0, 0.1, 0.01):
        assert not can_pack(model, examples(), "answer")
    share[0] = 0.0
    assert can_pack(model, examples(), "answer")


def trained(model: torch.nn.Module, recipe: Recipe, **settings) -> list[dict]:
    return list(train(model, adamw(model, recipe), examples(), recipe, 1, **settings))


def test_training_is_deterministic_and_learns(tiny_model: Path) -> None:
    ends = []
    for _ in range(2):
        model = load_model(tiny_model, "float32")
        rows = trained(model, RECIPE.model_copy(update={"epochs": 20}))
        ends.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert [row["tokens"] for row in rows[:3]] != [row["target_tokens"] for row in rows[:3]]


def test_events_for_tensorboard(tiny_model: Path, tmp_path: Path) -> None:
    rows = trained(load_model(tiny_model, "float32"), RECIPE)
    with tensorboard(tmp_path) as record:
        for row in rows:
            record(row)
    with tensorboard(tmp_path, 2) as record:  # interrupted after the first step, and begun again there
        record({**rows[1], "loss": 7.0})
    events = EventAccumulator(str(tmp_path)).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(1, pytest.approx(rows[0]["loss"])), (2, 7.0)]
    with tensorboard(None) as record:
        record(rows[0])


def test_gradient_checkpointing_changes_no_bit(tiny_model: Path) -> None:
    plain, saving = load_model(tiny_model, "float32"), load_model(tiny_model, "float32")
    saving.activation_checkpointing_enable({"use_reentrant": False})
    assert trained(plain, RECIPE) == trained(saving, RECIPE)
    assert all(map(torch.equal, plain.parameters(), saving.parameters()))


def test_the_arithmetic_can_be_in_bfloat16_and_the_weights_stay_float32(tiny_model: Path) -> None:
    model, exact = load_model(tiny_model, "float32"), load_model(tiny_model, "float32")
    losses = [row["loss"] for row in trained(model, RECIPE, compute=torch.bfloat16)]
    assert losses == pytest.approx([row["loss"] for row in trained(exact, RECIPE)], rel=0.05)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_adapters_train_alone_and_merge_as_in_peft(tiny_model: Path, tmp_path: Path) -> None:
    lora = LoraSettings(rank=4, alpha=8, dropout=0.1, targets=["q_proj", "down_proj"])
    model = load_model(tiny_model, "float32")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    add_adapters(model, lora)
    initialise_adapters(model, 1)
    untouched = copy.deepcopy(model)
    rows = trained(model, RECIPE.model_copy(update={"epochs": 5, "learning_rate": 1e-2}))
    assert rows[-1]["loss"] < rows[0]["loss"]
    again = [row["loss"] for row in trained(untouched, RECIPE.model_copy(update={"epochs": 5, "learning_rate": 1e-2}))]
    assert again == [row["loss"] for row in rows]  # dropout too is by seed
    Checkpoint(model, tiny_model).save(tmp_path)
    merged = dict(load_model(tmp_path, "float32").named_parameters())
    assert merged.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], merged[name])}
    assert changed == {name for name in before if "q_proj" in name or "down_proj" in name}

    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    theirs = get_peft_model(load_model(tiny_model, "float32"), config)
    adapters = {name: parameter for name, parameter in model.named_parameters() if f".{ADAPTER}." in name}
    with torch.no_grad():
        for name, parameter in theirs.base_model.model.named_parameters():
            if name in adapters:
                parameter.copy_(adapters.pop(name))
    assert not adapters
    for name, parameter in theirs.merge_and_unload().named_parameters():
        torch.testing.assert_close(parameter, merged[name], rtol=0, atol=1e-6)


def test_moments_in_8_bits_train_and_go_on_to_the_same_bits(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install bitsandbytes")
    recipe = RECIPE.model_copy(update={"optimizer": "adamw_8bit", "epochs": 3})
    whole, exact = load_model(tiny_model, "float32"), load_model(tiny_model, "float32")
    rows = trained(whole, recipe)
    reference = [row["loss"] for row in trained(exact, recipe.model_copy(update={"optimizer": "adamw"}))]
    assert [row["loss"] for row in rows] == pytest.approx(reference, rel=0.05)

    begun, resumed, state = (
        load_model(tiny_model, "float32"),
        load_model(tiny_model, "float32"),
        TrainingState(tmp_path),
    )
    optimizer = adamw(begun, recipe)
    training = train(begun, optimizer, examples(), recipe, 1)
    first = [next(training) for _ in range(4)]
    moments = optimizer.state[begun.get_input_embeddings().weight].values()
    assert any(value.dtype == torch.uint8 for value in moments if isinstance(value, torch.Tensor))
    state.save(begun, optimizer, first)
    again = adamw(resumed, recipe)
    done = state.load(resumed, again)
    assert done + list(train(resumed, again, examples(), recipe, 1, first=len(done))) == rows
    assert all(map(torch.equal, whole.parameters(), resumed.parameters()))


def test_adapters_need_layers_of_their_names(tiny_model: Path) -> None:
    with pytest.raises(KnowshiftError, match=r"finetuning\.lora\.targets.*query"):
        add_adapters(load_model(tiny_model, "float32"), LoraSettings(rank=4, alpha=8, targets=["query"]))


@pytest.mark.parametrize("targets", ["all-linear", ["down_proj"], ["k_proj"]])
def test_adapters_are_no_larger_than_what_they_adapt(tiny_model: Path, targets: str | list[str]) -> None:
    """The tiny model's widest layers have rank 64, and k_proj of shape (32, 64) has 32."""
    most = 32 if targets == ["k_proj"] else 64
    model = load_model(tiny_model, "float32")
    names = set(model.state_dict())
    with pytest.raises(KnowshiftError, match=rf"lora\.rank is {most + 1}, .* than {most} \("):
        add_adapters(model, LoraSettings(rank=most + 1, targets=targets))
    assert set(model.state_dict()) == names
    add_adapters(model, LoraSettings(rank=most, targets=targets))
    assert len(model.state_dict()) > len(names)
