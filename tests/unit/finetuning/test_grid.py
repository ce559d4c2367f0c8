"""Tests of the grid: which cells there are."""

from itertools import product

import pyarrow as pa
import pytest

from knowshift.configuration.restoration import Restoration
from knowshift.finetuning.grid import (
    Cell,
    TunedCell,
    cell_of,
    cells,
    cells_read,
    describe,
    is_restored,
    other_seeds,
    tuned_cells,
)
from knowshift.mastery.schemas import LEVEL_COUNTS

METHODS, KINDS, SIZES, SEEDS = ["full", "lora"], ["level0", "level2", "mixed"], [8, 32, "all"], [1, 2]


@pytest.mark.parametrize(
    ("method_data", "data_sizes"),
    [
        ({}, {}),
        ({"lora": ["mixed"]}, {}),
        ({}, {"level0": [32], "level2": ["all", 8]}),
        ({"lora": ["mixed", "level0"]}, {"level0": [32], "mixed": [8, "all"]}),
    ],
)
def test_a_grid_has_every_combination_that_is_not_excluded(method_data: dict, data_sizes: dict) -> None:
    expected = {
        Cell(method, kind, size, seed)
        for method, kind, size, seed in product(METHODS, KINDS, SIZES, SEEDS)
        if kind in method_data.get(method, KINDS)
        and size in data_sizes.get(kind, SIZES)
        and (size != "all" or seed == SEEDS[0])
    }
    made = cells(METHODS, KINDS, SIZES, SEEDS, method_data, data_sizes)
    assert set(made) == expected and len(made) == len(expected)
    assert [Cell.parse(cell.run) for cell in made] == made


def test_lifting_a_restriction_only_adds_cells() -> None:
    few, all_cells = cells(METHODS, KINDS, SIZES, SEEDS, {}, {"level0": [8]}), cells(METHODS, KINDS, SIZES, SEEDS)
    assert set(few) < set(all_cells)
    assert [cell for cell in all_cells if cell in set(few)] == few
    assert {cell.data for cell in set(all_cells) - set(few)} == {"level0"}


def test_names_of_runs_tell_how_a_cell_was_made() -> None:
    for name in ("support-bot", "a.b_c", "level0-8-s1", "X"):
        assert cell_of(TunedCell(name).run) == TunedCell(name)
    assert cell_of("full-level0-8-s1") == Cell("full", "level0", 8, 1)
    assert tuned_cells({"b": 1, "a": 2}) == [TunedCell("b"), TunedCell("a")]


@pytest.mark.parametrize(
    ("entry", "here", "elsewhere"),
    [
        ({}, True, True),
        ({"methods": ["full"]}, True, False),
        ({"seeds": [2]}, False, False),
        ({"tuned": ["bot"]}, False, True),
        ({"tuned": ["other"]}, False, False),
        ({"tuned": ["bot"], "methods": ["full"]}, True, True),
        ({"tuned": [], "data": []}, True, True),
        ({"models": ["another"], "tuned": ["bot"]}, False, False),
    ],
)
def test_an_entry_that_chooses_cells_of_one_kind_leaves_the_other_out(entry: dict, here: bool, elsewhere: bool) -> None:
    asked = Restoration.model_validate(entry)
    assert is_restored(asked, "m", Cell("full", "mixed", 8, 1)) is here
    assert is_restored(asked, "m", TunedCell("bot")) is elsewhere


def test_cells_that_were_tuned_elsewhere_stand_beside_the_grid() -> None:
    levels = pa.Table.from_pylist([], schema=LEVEL_COUNTS)
    rows = describe([Cell("full", "mixed", 8, 1)], levels, [TunedCell("bot")]).to_pylist()
    assert [row["state"] for row in rows] == ["infeasible", "run"]
    nothing = {"size": None, "facts": None, "seed": None}
    assert rows[1] == {"run": "tuned-bot", "method": "tuned", "data": "bot", "state": "run", **nothing}


def test_a_strategy_that_compares_seeds_reads_the_other_seeds_of_a_cell() -> None:
    every = cells(METHODS, KINDS, SIZES, [3, 1, 2])
    for cell in every:
        others = other_seeds(cell, [3, 1, 2])
        same = [one for one in every if (one.method, one.data, one.size) == (cell.method, cell.data, cell.size)]
        assert others == [one for one in same if one != cell]
        assert cells_read("top", cell, [3, 1, 2]) == [cell]
        assert cells_read("sign_agreeing", cell, [3, 1, 2]) == [cell, *others]
        assert is_restored(Restoration(strategy="sign_agreeing"), "m", cell) == bool(others) == (cell.size != "all")
        assert is_restored(Restoration(strategy="smallest"), "m", cell)
    elsewhere = TunedCell("bot")
    assert not is_restored(Restoration(strategy="sign_agreeing"), "m", elsewhere) and not other_seeds(elsewhere, [1, 2])
    assert is_restored(Restoration(strategy="smallest"), "m", elsewhere)
    assert cells_read("sign_agreeing", elsewhere, [1, 2]) == [elsewhere]
