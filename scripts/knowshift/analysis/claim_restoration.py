"""The paper's fourth claim: most of an update can be undone without harm, often with gain."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from knowshift.analysis.answer_matrix import Panel
from knowshift.analysis.estimates import Estimate, mean_of
from knowshift.analysis.recommendation import Candidate, choose
from knowshift.analysis.restoration_tests import share_undone
from knowshift.analysis.study import Condition, RestoredCondition, Study
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
        if one.condition.method == study.main_method
        and one.strategy == "top"
        and one.region == "transformer"
        and one.percent
    ]
    if not sweep:
        return [replace(part, note="nothing was restored") for part in (harmless, gains, larger, unknown)]

    def gain(one: RestoredCondition) -> Estimate:
        return panel.headline(one.answerers) - panel.headline(one.unrestored)

    harmless = _harmless(harmless, sweep, concentration, gain)
    conditions = list(dict.fromkeys(one.condition for one in sweep))
    best = {
        condition: choose(study, [Candidate(condition, one) for one in sweep if one.condition == condition])
        for condition in conditions
    }
    if None in best.values():
        return [
            harmless,
            *(replace(part, note="no dev questions to choose a share on") for part in (gains, larger, unknown)),
        ]
    gained = {condition: gain(candidate.restoration) for condition, candidate in best.items()}
    shares = listed(sorted({f"{candidate.restoration.percent:g} %" for candidate in best.values()}))
    gains = replace(gains, estimate=mean_of(list(gained.values())), compared=f"{shares} of {len(conditions)} cells of data kind and size")  # fmt: skip
    return [harmless, gains, _by_size(larger, gained), _by_level(unknown, gained)]


def _harmless(part: Part, sweep: list[RestoredCondition], concentration: pd.DataFrame, gain: Callable) -> Part:
    held = concentration.set_index(["run", "region", "percent"])["share_without_zeros"].to_dict()
    undone = {}
    for one in sweep:
        shares = [share_undone(held, run, one.strategy, one.region, one.percent) for run in one.runs]
        undone[one] = None if None in shares else float(np.mean(shares))
    conditions = {one.condition for one in sweep}
    percents = [
        percent
        for percent in sorted({one.percent for one in sweep})
        if {one.condition for one in sweep if one.percent == percent} == conditions
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


def _by_size(part: Part, gained: Mapping[Condition, Estimate]) -> Part:
    by_data: dict[str, list[Condition]] = {}
    for condition in sorted(gained, key=lambda condition: condition.size):
        by_data.setdefault(condition.data, []).append(condition)
    pairs = [(conditions[0], conditions[-1]) for conditions in by_data.values() if len(conditions) > 1]
    if not pairs:
        return replace(part, note="no data kind was restored at two sizes")
    compared = "; ".join(f"{small.data}: {small.size:,} and {large.size:,} facts" for small, large in pairs)
    return replace(part, estimate=mean_of([gained[large] - gained[small] for small, large in pairs]), compared=compared)


def _by_level(part: Part, gained: Mapping[Condition, Estimate]) -> Part:
    by_size: dict[int, list[Condition]] = {}
    for condition in sorted(
        (condition for condition in gained if condition.data != "mixed"), key=lambda condition: condition.data
    ):
        by_size.setdefault(condition.size, []).append(condition)
    pairs = [(conditions[0], conditions[-1]) for conditions in by_size.values() if len(conditions) > 1]
    if not pairs:
        return replace(part, note="no two levels were restored at one size")
    compared = "; ".join(f"{low.data} and {high.data} at {low.size:,} facts" for low, high in pairs)
    return replace(part, estimate=mean_of([gained[low] - gained[high] for low, high in pairs]), compared=compared)
