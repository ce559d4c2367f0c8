"""Variants that stop another method's training early: what may stand there, and one clear line of what may not."""

import copy
from pathlib import Path

import pytest

import tiny
from knowshift.configuration import checking

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def raw(tiny_facts: Path, tmp_path: Path) -> dict:
    return copy.deepcopy(tiny.configuration(tiny_facts, tmp_path))


def test_a_method_that_stops_early_is_that_of_its_training(raw: dict) -> None:
    raw["finetuning"] |= {
        "methods": ["half", "fast"],
        "method_data": {"half": ["mixed"]},
        "variants": {"half": {"method": "lora", "stop_at": 0.5}, "fast": {"method": "full", "learning_rate": 1.0}},
    }
    raw["restoration"], raw["exports"] = [{"methods": ["half"], "percents": [20]}], []
    grid = checking.check(raw, REPOSITORY).finetuning
    assert grid and grid.training("half") == grid.training("lora") != grid.training("full")
    stop = grid.stop_of("half")
    assert stop and (stop.method, stop.stop_at) == ("lora", 0.5)
    assert not any(map(grid.stop_of, ("full", "lora", "fast", "unknown")))


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "greater than or equal to 0.000001, not 0"),
        (-0.5, "greater than or equal"),
        (1, "less than 1, not 1"),
        (50, "less than 1, not 50"),
        (True, "neither a number nor a text"),
        (None, "valid number, not None"),
        ("half", "valid number"),
        ([0.5], "valid number"),
        (float("nan"), "finite number"),
    ],
)
def test_a_share_of_the_steps_is_between_0_and_1(raw: dict, share: object, said: str) -> None:
    raw["finetuning"]["variants"] = {"half": {"method": "full", "stop_at": share}}
    with pytest.raises(checking.ConfigurationError) as caught:
        checking.check(raw, REPOSITORY)
    assert "variants.half: stop_at: " in str(caught.value) and said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ({"half": {"stop_at": 0.5}}, "variants.half.method must be full or lora, not None"),
        (
            {"half": {"method": "full", "stop_at": 0.5}, "third": {"method": "half", "stop_at": 0.6}},
            "variants.third.method must be full or lora, not 'half'",
        ),
        (
            {"half": {"method": "lora", "stop_at": 0.5, "lora": {"rank": 2}, "epochs": 2}},
            "variants.half: stop_at stops the training that method names, so epochs cannot be changed beside it",
        ),
        ({"half": {"method": "full", "stop": 0.5}}, "stop is no known key; allowed are method, stop_at, "),
    ],
)
def test_nothing_stands_beside_a_stop_but_its_method(raw: dict, variants: dict, said: str) -> None:
    raw["finetuning"]["variants"] = variants
    with pytest.raises(checking.ConfigurationError) as caught:
        checking.check(raw, REPOSITORY)
    assert said in str(caught.value) and "\n" not in str(caught.value)
