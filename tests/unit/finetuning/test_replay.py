"""Replay: which well-known facts are trained along, and how a training reads them."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

import tiny
from knowshift.configuration.finetuning import Recipe
from knowshift.finetuning.job import TrainingFiles, finetune, read_training_examples
from knowshift.finetuning.options import TrainingOptions
from knowshift.finetuning.orders import KNOWN, draw_order
from knowshift.finetuning.replay import replayed_count, replayed_facts
from knowshift.finetuning.schedule import batches
from knowshift.finetuning.schemas import ORDERS
from knowshift.mastery.schemas import MASTERY
from knowshift.runtime.errors import Interrupted, KnowshiftError
from knowshift.runtime.parquet import write_table
from made_up_facts import fact

REPOSITORY = Path(__file__).parents[3]
DATA = ["level0", "level3", "level4", "mixed"]


def levelled(count: int = 200) -> pa.Table:
    """Make up graded facts of all levels; every ninth is no train fact, out of domain, or also in test."""
    rows = [
        fact(n, topic=f"T{n % 3}", draw_level=n % 5, level=0, mastery=0.0, successes=[0])
        | {"first_position": [-1], "half_mastery": [0.0, 0.0], "half_levels": [0, 0]}
        for n in range(count)
    ]
    for start, change in enumerate(({"split": "test"}, {"domain": "out_of_domain"}, {"also_in_test": True})):
        for row in rows[start::27]:
            row |= change
    return pa.Table.from_pylist(rows, schema=MASTERY)


def ids(table: pa.Table) -> list[str]:
    return table["fact_id"].to_pylist()


def test_known_facts_are_those_of_levels_3_and_4_that_may_be_drawn() -> None:
    mastery, drawn = levelled(), {draw: ids(draw_order(levelled(), KNOWN, 1, draw)) for draw in ("s1", "s2")}
    expected = [
        row["fact_id"]
        for row in mastery.to_pylist()
        if (row["domain"], row["split"], row["also_in_test"]) == ("in_domain", "train", False) and row["draw_level"] > 2
    ]
    assert 0 < len(expected) < 80
    assert sorted(drawn["s1"]) == sorted(drawn["s2"]) == sorted(expected)
    assert drawn["s1"] != drawn["s2"] and drawn["s1"] != ids(draw_order(mastery, KNOWN, 2, "s1"))
    shuffled = mastery.take(list(range(len(mastery)))[::-1])
    assert ids(draw_order(shuffled, KNOWN, 1, "s1")) == drawn["s1"]


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("replay", [0.3, 0.5, 1.0, 10.0])
def test_as_many_as_asked_for_none_of_them_taught_and_larger_sets_hold_smaller_ones(data: str, replay: float) -> None:
    order, known = (draw_order(levelled(), kind, 1, "s1") for kind in (data, KNOWN))
    before: set[str] = set()
    for size in range(1, len(order) + 1):
        taught = order.slice(0, size)
        found = replayed_facts(known, taught, replay)
        left = len(set(ids(known)) - set(ids(taught)))
        assert len(found) == len(set(ids(found))) == min(replayed_count(replay, size), left)
        assert not set(ids(found)) & set(ids(taught)) and set(ids(found)) <= set(ids(known))
        assert before <= set(ids(found)) | set(ids(taught))
        before = set(ids(found)) | set(ids(taught))
        assert found.schema.equals(ORDERS)
    assert replayed_count(0.5, 64) == 32 and replayed_count(0.3, 8) == 2 and replayed_count(0, 64) == 0


@pytest.fixture
def files(tiny_model: Path, tmp_path: Path) -> TrainingFiles:
    """Files of a training on level 1, with an order of 12 known facts."""
    rows = [
        {"fact_id": name, "topic": topic, "question": tiny.TOPICS[topic][0].replace("[X]", name), "object": object_}
        for topic, split, name, object_, _ in tiny.facts()
        if (topic, split) == ("home", "train")
    ]
    for name, part in {"order": rows[:20], "known": rows[16:28]}.items():
        write_table(tmp_path / f"{name}.parquet", pa.Table.from_pylist(part, schema=ORDERS), ORDERS, {"data": name})
    prompt = REPOSITORY / "resources/prompt.yaml"
    output = tmp_path / "checkpoint", tmp_path / "steps.parquet"
    return TrainingFiles(tiny_model, tmp_path / "order.parquet", prompt, *output, replayed=tmp_path / "known.parquet")


def test_replayed_facts_follow_the_taught_ones_and_batches_mix_them(
    files: TrainingFiles, caplog: pytest.LogCaptureFixture
) -> None:
    without = TrainingFiles(files.model, files.order, files.prompt, files.checkpoint, files.steps)
    taught, every = read_training_examples(without, 16), read_training_examples(files, 16, replay=0.5)
    known = TrainingFiles(files.model, files.order.with_name("known.parquet"), files.prompt, Path(), Path())
    assert every == taught + read_training_examples(known, 8)
    assert files.read == [*without.read, files.replayed]
    plan = batches(len(every), Recipe(batch_size=6), 1)
    assert any(min(batch) < 16 <= max(batch) for batch in plan)
    assert sorted(index for batch in plan for index in batch) == list(range(24))

    with caplog.at_level(logging.INFO, "knowshift"):
        fewer = read_training_examples(files, 20, replay=1)  # four of the twelve are taught
    assert len(fewer) == 20 + 8 and len({tuple(tokens) for tokens, _ in fewer}) == 28
    assert [line.getMessage() for line in caplog.records] == ["replay: 8 of the 20 facts asked for; there are no more"]


def test_replay_needs_both_its_share_and_its_facts(files: TrainingFiles) -> None:
    without = TrainingFiles(files.model, files.order, files.prompt, files.checkpoint, files.steps)
    for some, replay in ((files, 0.0), (without, 0.5)):
        with pytest.raises(KnowshiftError, match=r"--replay\) and an order of known facts \(--replayed\)"):
            read_training_examples(some, 16, replay=replay)


def test_an_interrupted_job_with_replay_and_a_pull_ends_in_the_same_bytes(files: TrainingFiles, tmp_path: Path) -> None:
    options = TrainingOptions(size=16, replay=0.5, l2_sp=20.0, epochs=3, learning_rate=1e-3)

    def job(name: str, steps: float, **changes: float) -> TrainingFiles:
        """Train, or be told to end after some steps."""
        asked = iter(range(1, 1000))
        folder = tmp_path / f"{name}.saved"
        folder.mkdir(exist_ok=True)
        own = replace(files, checkpoint=tmp_path / name, steps=tmp_path / f"{name}.parquet")
        own = own if changes.get("replay", 1) else replace(own, replayed=None)
        told = options.model_copy(update=changes)
        finetune(own, told, torch.device("cpu"), folder, lambda: next(asked) >= steps, 1e9, False)
        return own

    def bytes_of(done: TrainingFiles) -> tuple[bytes, bytes]:
        return (done.checkpoint / "model.safetensors").read_bytes(), done.steps.read_bytes()

    whole = bytes_of(job("whole", math.inf))
    with pytest.raises(Interrupted, match="saved after step 4 of 9"):
        job("killed", 4)
    assert bytes_of(job("killed", math.inf)) == whole
    assert bytes_of(job("free", math.inf, l2_sp=0.0))[0] != whole[0]
    assert bytes_of(job("alone", math.inf, replay=0.0))[0] != whole[0]
