"""Stopping early: what a training keeps on its way is what it would have been, had it ended there."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import torch

import tiny
from knowshift.configuration.finetuning import Finetuning
from knowshift.finetuning.checkpoint import Checkpoint
from knowshift.finetuning.grid import Cell, cells
from knowshift.finetuning.job import TrainingFiles, claimed, finetune, read_training_examples
from knowshift.finetuning.loop import adamw, train
from knowshift.finetuning.lora import add_adapters, initialise_adapters
from knowshift.finetuning.options import TrainingOptions
from knowshift.finetuning.schemas import ORDERS
from knowshift.finetuning.stops import step_of, stop_folder, stops_by_training, trained_cell
from knowshift.models.loading import load_model
from knowshift.randomness import derive_seed
from knowshift.runtime.artefacts import read_manifest
from knowshift.runtime.errors import Interrupted
from knowshift.runtime.parquet import write_table

REPOSITORY = Path(__file__).parents[3]
OPTIONS = TrainingOptions(learning_rate=1e-3, epochs=2, name="s1", seed=1)  # 40 facts: 10 steps
SHARES = [0.25, 0.5, 0.98]  # after 2 steps (the even one of 2 and 3), 5 and 10


def files(folder: Path, model: Path) -> TrainingFiles:
    """The files of a training on 40 invented facts."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"fact_id": name, "topic": topic, "question": tiny.TOPICS[topic][0].replace("[X]", name), "object": object_}
        for topic, split, name, object_, _ in tiny.facts()
        if (topic, split) == ("home", "train")
    ]
    write_table(folder / "order.parquet", pa.Table.from_pylist(rows, schema=ORDERS), ORDERS)
    prompt = REPOSITORY / "resources/prompt.yaml"
    return TrainingFiles(model, folder / "order.parquet", prompt, folder / "checkpoint", folder / "steps.parquet")


def never() -> bool:
    return False


def run(
    folder: Path,
    model: Path,
    stops: Sequence[float] = (),
    told_to_end: Callable[[], bool] = never,
    options: TrainingOptions = OPTIONS,
) -> TrainingFiles:
    """Train as the script does, from where an earlier start ended."""
    made = files(folder, model)
    with claimed(made, options, "code", stops) as state:
        assert state
        finetune(made, options, torch.device("cpu"), state, told_to_end, 0, False, stops)
    return made


def content(folder: Path) -> dict[str, bytes]:
    """The files of a model directory, without its manifest."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"
    }


def ended_at(step: int, made: TrainingFiles, output: Path, options: TrainingOptions) -> Path:
    """Run the loop by itself, end it after a step, and write the model."""
    seed, model = derive_seed(options.seed, "train", options.name), load_model(made.model, "float32")
    if options.method == "lora":
        add_adapters(model, options.lora)
        initialise_adapters(model, seed)
    loop = train(model, adamw(model, options), read_training_examples(made, None), options.recipe(), seed)
    assert [next(loop)["step"] for _ in range(step)][-1] == step
    output.mkdir()
    Checkpoint(model, made.model).save(output)
    return output


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_stop_is_the_training_ended_there_and_changes_nothing_of_it(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    options = OPTIONS.model_copy(update={"method": method})
    plain = run(tmp_path / "plain", tiny_model, options=options)
    stopped = run(tmp_path / "stopped", tiny_model, SHARES, options=options)
    assert content(stopped.checkpoint) == content(plain.checkpoint)
    assert stopped.steps.read_bytes() == plain.steps.read_bytes()
    assert not (plain.checkpoint / "stops").exists() and not list(tmp_path.glob("*/.*.unfinished"))
    read_manifest(stopped.checkpoint)
    for share, step in zip(SHARES, (2, 5, 10), strict=True):
        kept = stop_folder(stopped.checkpoint, share)
        assert read_manifest(kept)["step"] == step
        assert content(kept) == content(ended_at(step, stopped, tmp_path / f"{share}", options))
    models = [content(stop_folder(stopped.checkpoint, share)) for share in SHARES]
    assert models[0] != models[1] != models[2] == content(stopped.checkpoint)


class Killed(Exception):
    """Ends a training without warning."""


def test_a_training_that_is_killed_between_its_stops_keeps_the_same_models(tiny_model: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", tiny_model, SHARES)
    asked = []

    def killed_after(*when: int) -> Callable[[], bool]:
        """Be killed after some steps of a start, which are not saved yet, and told to end after the last of them."""

        def told() -> bool:
            asked.append(len(asked))
            if len(asked) in when[:-1]:
                raise Killed
            return len(asked) == when[-1]

        asked.clear()
        return told

    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        run(folder, tiny_model, SHARES, killed_after(2, 99))  # the model of step 2 is written, its state is not
    with pytest.raises(Interrupted):
        run(folder, tiny_model, SHARES, killed_after(3))  # goes on after step 1, and ends after step 4
    with pytest.raises(Killed):
        run(folder, tiny_model, SHARES, killed_after(6, 99))  # after the last step
    done = run(folder, tiny_model, SHARES)
    assert len(asked) == 6 and done.steps.read_bytes() == whole.steps.read_bytes()
    for share in SHARES:
        assert content(stop_folder(done.checkpoint, share)) == content(stop_folder(whole.checkpoint, share))
    assert read_manifest(done.checkpoint) == read_manifest(whole.checkpoint)


def test_a_state_that_was_saved_for_other_stops_is_not_continued(tiny_model: Path, tmp_path: Path) -> None:
    """It has gone past a step at which a model is wanted."""
    with pytest.raises(Interrupted):
        run(tmp_path, tiny_model, [0.5], lambda: True)
    made, saved = files(tmp_path, tiny_model), []
    for stops in ([0.5], [0.25]):
        with pytest.raises(Killed), claimed(made, OPTIONS, "code", stops) as state:
            assert state
            saved.append((state / "steps.json").exists())
            raise Killed
    assert saved == [True, False]


def test_the_step_of_a_share() -> None:
    assert [step_of(0.5, steps) for steps in (1, 2, 3, 4, 7)] == [1, 1, 2, 2, 4]
    for steps in range(1, 60):
        chosen = [step_of(number / 100, steps) for number in range(1, 100)]
        assert chosen == sorted(chosen) and chosen[0] == 1 and chosen[-1] <= steps
        assert all(step == 1 or abs(step - number * steps / 100) <= 0.5 for number, step in enumerate(chosen, 1))


def test_cells_that_stop_early_are_kept_by_the_training_that_they_stop() -> None:
    grid = Finetuning(
        methods=["half", "quarter", "slow", "adapted"],
        data=["level0", "mixed"],
        sizes=[8],
        seeds=[1, 2],
        method_data={"quarter": ["mixed"]},
        variants={
            "half": {"method": "full", "stop_at": 0.5},
            "quarter": {"method": "full", "stop_at": 0.25},
            "slow": {"method": "full", "learning_rate": 1e-6},
            "adapted": {"method": "lora", "stop_at": 0.5},
        },
        epochs=3,
    )
    assert trained_cell(Cell("half", "level0", 8, 1), grid) == Cell("full", "level0", 8, 1)
    assert trained_cell(Cell("slow", "level0", 8, 1), grid) == Cell("slow", "level0", 8, 1)
    assert trained_cell(Cell("half", "level0", 8, 1), None) == Cell("half", "level0", 8, 1)
    assert grid.training("half") == grid.training("full") and grid.training("adapted") == grid.training("lora")
    planned = cells(grid.methods, grid.data, grid.sizes, grid.seeds, grid.method_data)
    found = stops_by_training(planned, grid)
    assert found == {
        **{Cell("full", "level0", 8, seed): [0.5] for seed in (1, 2)},
        **{Cell("full", "mixed", 8, seed): [0.25, 0.5] for seed in (1, 2)},
        **{Cell("lora", data, 8, seed): [0.5] for data in ("level0", "mixed") for seed in (1, 2)},
    }
    assert stops_by_training(planned, None) == {}
