"""A strategy of restoration that compares seeds needs several, which a model that was fine-tuned elsewhere has not."""

from pathlib import Path

import pytest

import tiny
from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.configuration import checking, consent
from knowshift.planning.fact_counts import TopicSize
from knowshift.planning.planned_model import ModelSize, PlannedModel

REPOSITORY = Path(__file__).parents[3]
COMPARES = "sign_agreeing"
EXPORT = {"model": "tiny", "percent": 50, "strategy": COMPARES}
BOT = "compares the models of several seeds, and of bot, which was fine-tuned elsewhere, there is one; choose another"


@pytest.fixture
def raw(tiny_facts: Path, tmp_path: Path) -> dict:
    """An experiment with a grid of two seeds and a model that was fine-tuned elsewhere; nothing is restored."""
    content = tiny.configuration(tiny_facts, tmp_path)
    content["models"]["tiny"]["tuned"] = {"bot": {"source": {"directory": str(tmp_path)}, "prompt": "study"}}
    return content | {"restoration": [], "exports": []}


def planned(raw: dict) -> PlannedModel:
    """The experiment as a plan counts it, with facts enough for every cell."""
    settings = checking.check(raw, REPOSITORY)
    facts = {"train": 9000, "dev": 10, "test": 10}
    topics = {name: TopicSize("in_domain", facts, 9000, 10.0, 10.0, 5.0) for name in settings.facts.in_domain}
    model = PlannedModel(settings, "tiny", ModelSize(1e6, 4e6, {}), topics)
    assert consent.count_models(settings) == len(model.runs) + len(model.restored)
    return model


@pytest.mark.parametrize(
    ("seeds", "more", "said"),
    [
        ([1], {"restoration": [{}]}, "restoration.0.strategy: sign_agreeing compares the models of several seeds, and"),
        ([1, 2], {"restoration": [{"sizes": [8, "all"]}]}, "restoration.0.sizes: the size all is trained with one"),
        ([1, 2], {"exports": [{"run": "full-mixed-all-s1"}]}, "exports.0.run: the size all is trained with one seed"),
        ([1], {"exports": [{"run": "full-mixed-8-s1"}]}, "exports.0.strategy: sign_agreeing compares the models of"),
        ([1, 2], {"restoration": [{"tuned": ["bot"]}]}, f"restoration.0: sign_agreeing {BOT}"),
        ([1, 2], {"restoration": [{"tuned": ["bot"], "sizes": [8]}]}, f"restoration.0: sign_agreeing {BOT}"),
        ([1, 2], {"exports": [{"run": "tuned-bot"}]}, f"exports.0: sign_agreeing {BOT}"),
        (None, {"restoration": [{}]}, "restoration.0.strategy: sign_agreeing compares the models of several seeds, and"
         " nothing is trained here"),
        (None, {"exports": [{"run": "tuned-bot"}]}, f"exports.0: sign_agreeing {BOT}"),
    ],
)  # fmt: skip
def test_without_several_seeds_it_is_refused(raw: dict, seeds: list[int] | None, more: dict, said: str) -> None:
    raw["finetuning"] = raw["finetuning"] | {"seeds": seeds} if seeds else None
    raw["restoration"] = [{"strategy": COMPARES, "percents": [20], **entry} for entry in more.get("restoration", [])]
    raw["exports"] = [EXPORT | entry for entry in more.get("exports", [])]
    with pytest.raises(checking.ConfigurationError) as caught:
        checking.check(raw, REPOSITORY)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", STRATEGY_TRAITS)
def test_every_strategy_takes_the_cells_that_it_can_work_on(raw: dict, strategy: str) -> None:
    everything = {"strategy": strategy, "percents": [20], "more_dtypes": ["bfloat16"]}
    raw["restoration"] = [everything]
    model = planned(raw)
    restored = {one.cell.run for one in model.restored}
    runs = {cell.run for cell in model.runs}
    assert "tuned-bot" in runs and "full-mixed-all-s1" in runs
    if strategy == COMPARES:
        assert restored == {run for run in runs if run != "tuned-bot" and "-all-" not in run}
    else:
        assert restored == runs
        raw["restoration"] = [{**everything, "tuned": ["bot"]}]
        assert {one.cell.run for one in planned(raw).restored} == {"tuned-bot"}


def test_an_export_keeps_the_deltas_that_it_reads(raw: dict) -> None:
    raw["finetuning"] |= {"keep_deltas": "restored", "seeds": [1, 2, 3]}
    raw["exports"] = [EXPORT | {"run": "full-mixed-8-s2"}]
    assert {cell.run for cell in planned(raw).kept_deltas} == {f"full-mixed-8-s{seed}" for seed in (1, 2, 3)}
    raw["exports"] = [{"model": "tiny", "percent": 50, "strategy": "low_rank", "run": "tuned-bot"}]
    assert [cell.run for cell in planned(raw).kept_deltas] == ["tuned-bot"]
