"""Methods and the recipes that they train by."""

from pathlib import Path

import tiny
from knowshift.configuration import checking

REPOSITORY = Path(__file__).parents[3]


def test_a_pull_and_replay_are_settings_of_variants(tiny_facts: Path, tmp_path: Path) -> None:
    raw = tiny.configuration(tiny_facts, tmp_path)
    raw["finetuning"]["variants"] = {
        "pulled": {"method": "full", "l2_sp": 0.1},
        "replayed": {"method": "full", "replay": 0.5},
        "adapted": {"method": "lora", "replay": 1},
    }
    raw["finetuning"]["methods"] += list(raw["finetuning"]["variants"])
    grid = checking.check(raw, REPOSITORY).finetuning
    assert grid is not None
    found = {name: grid.training(name)[1] for name in grid.methods}
    assert {name: (recipe.l2_sp, recipe.replay) for name, recipe in found.items()} == {
        "full": (0, 0),
        "lora": (0, 0),
        "pulled": (0.1, 0),
        "replayed": (0, 0.5),
        "adapted": (0, 1),
    }


def test_trainings_are_grouped_by_the_one_setting_that_they_change(tiny_facts: Path, tmp_path: Path) -> None:
    raw = tiny.configuration(tiny_facts, tmp_path)
    ways = {
        "half": ({"method": "full", "stop_at": 0.5}, "stop_at"),
        "quarter": ({"method": "full", "stop_at": 0.25}, "stop_at"),
        "pulled": ({"method": "full", "l2_sp": 3}, "l2_sp"),
        "gentle": ({"method": "full", "l2_sp": 3, "learning_rate": 1e-6}, "gentle"),
        "thin": ({"method": "lora", "lora": {"rank": 2}}, "lora"),
    }
    raw["finetuning"]["variants"] = {name: settings for name, (settings, _) in ways.items()}
    raw["finetuning"]["methods"] = ["full", "lora", *(name for name in ways if name != "quarter")]
    grid = checking.check(raw, REPOSITORY).finetuning
    assert grid is not None
    expected = {"lora": "lora"} | {name: way for name, (_, way) in ways.items() if name != "quarter"}
    assert grid.trained_otherwise() == expected
