"""The paper's fourth claim: most of an update can be undone without harm, often with gain."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from knowshift.analysis.answer_matrix import Panel
from knowshift.analysis.estimates import Estimate, mean_of
from knowshift.analysis.recommendation import Recipe, choose
from knowshift.analysis.restoration_tests import share_undone
from knowshift.analysis.study import Cell, Restoration, Study
from knowshift.analysis.verdicts import Part, listed

MOST_UNDONE = 0.9  # of the summed relative change
HARM = 0.02  # of accuracy: a loss smaller than this is none


def restoration_parts(study: Study, panel: Panel, concentration: pd.DataFrame) -> list[Part]:
    harmless = Part(4, "a", "Up to 90 % of the update can be undone without harm.", "gain of the largest share with at most 90 % of the update", bound=-HARM)  # fmt: skip
    gains = Part(4, "b", "Restoring the share that is best on dev gains accuracy.", "gain of the share chosen on dev")
    larger = Part(4, "c", "Larger data gains more.", "gain at the largest restored size less at the smallest")
    unknown = Part(4, "d", "Less-known data gains more.", "gain of the least known data less of the best known")
    sweep = [
        one
        for one in study.restorations
        if one.cell.method == study.main_method
        and one.strategy == "top"
        and one.region == "transformer"
        and one.percent
    ]
    if not sweep:
        return [replace(part, note="nothing was restored") for part in (harmless, gains, larger, unknown)]

    def gain(one: Restoration) -> Estimate:
        return panel.headline(one.answerers) - panel.headline(one.unrestored)

    harmless = _harmless(harmless, sweep, concentration, gain)
    cells = list(dict.fromkeys(one.cell for one in sweep))
    best = {cell: choose(study, [Recipe(cell, one) for one in sweep if one.cell == cell]) for cell in cells}
    if None in best.values():
        return [
            harmless,
            *(replace(part, note="no dev questions to choose a share on") for part in (gains, larger, unknown)),
        ]
    gained = {cell: gain(recipe.restoration) for cell, recipe in best.items()}
    shares = listed(sorted({f"{recipe.restoration.percent:g} %" for recipe in best.values()}))
    gains = replace(gains, estimate=mean_of(list(gained.values())), compared=f"{shares} of {len(cells)} cells of data kind and size")  # fmt: skip
    return [harmless, gains, _by_size(larger, gained), _by_level(unknown, gained)]


def _harmless(part: Part, sweep: list[Restoration], concentration: pd.DataFrame, gain: Callable) -> Part:
    held = concentration.set_index(["run", "region", "percent"])["share_without_zeros"].to_dict()
    undone = {}
    for one in sweep:
        shares = [share_undone(held, run, one.strategy, one.region, one.percent) for run in one.runs]
        undone[one] = None if None in shares else float(np.mean(shares))
    cells = {one.cell for one in sweep}
    percents = [
        percent
        for percent in sorted({one.percent for one in sweep})
        if {one.cell for one in sweep if one.percent == percent} == cells
        and all(undone[one] is not None for one in sweep if one.percent == percent)
        and np.mean([undone[one] for one in sweep if one.percent == percent]) <= MOST_UNDONE
    ]
    if not percents:
        return replace(
            part, note="no share that all cells were restored by is known to hold at most 90 % of the update"
        )
    chosen = [one for one in sweep if one.percent == percents[-1]]
    share = np.mean([undone[one] for one in chosen])
    compared = f"{percents[-1]:g} % of parameters, {share:.0%} of the update, mean over {len(chosen)} cells"
    note = f"a loss of less than {100 * HARM:g} points counts as none"
    return replace(part, estimate=mean_of([gain(one) for one in chosen]), compared=compared, note=note)


def _by_size(part: Part, gained: Mapping[Cell, Estimate]) -> Part:
    by_data: dict[str, list[Cell]] = {}
    for cell in sorted(gained, key=lambda cell: cell.size):
        by_data.setdefault(cell.data, []).append(cell)
    pairs = [(cells[0], cells[-1]) for cells in by_data.values() if len(cells) > 1]
    if not pairs:
        return replace(part, note="no data kind was restored at two sizes")
    compared = "; ".join(f"{small.data}: {small.size:,} and {large.size:,} facts" for small, large in pairs)
    return replace(part, estimate=mean_of([gained[large] - gained[small] for small, large in pairs]), compared=compared)


def _by_level(part: Part, gained: Mapping[Cell, Estimate]) -> Part:
    by_size: dict[int, list[Cell]] = {}
    for cell in sorted((cell for cell in gained if cell.data != "mixed"), key=lambda cell: cell.data):
        by_size.setdefault(cell.size, []).append(cell)
    pairs = [(cells[0], cells[-1]) for cells in by_size.values() if len(cells) > 1]
    if not pairs:
        return replace(part, note="no two levels were restored at one size")
    compared = "; ".join(f"{low.data} and {high.data} at {low.size:,} facts" for low, high in pairs)
    return replace(part, estimate=mean_of([gained[low] - gained[high] for low, high in pairs]), compared=compared)
