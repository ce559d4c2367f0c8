"""The paper's fourth claim: most of what fine-tuning changed can be undone without harm, often with gain."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from knowshift.analysis.answer_matrix import Panel
from knowshift.analysis.estimates import Estimate, mean_of
from knowshift.analysis.recommendation import Candidate, choose
from knowshift.analysis.restoration_tests import mean_undone, shares_held
from knowshift.analysis.study import Condition, RestoredCondition, Study
from knowshift.analysis.verdicts import Part, listed

MOST_UNDONE = 0.9  # share of the summed relative change
HARM = 0.02  # loss of accuracy; a smaller loss counts as none


def restoration_parts(study: Study, panel: Panel, concentration: pd.DataFrame) -> list[Part]:
    """The parts of the claim, judged on the main method restored from the largest relative changes down.

    Args:
        study: The study.
        panel: The answers to the in-domain test set.
        concentration: A table in the schema `CONCENTRATION`.
    """
    harmless = Part(
        4,
        "a",
        "Up to 90 % of the update can be undone without harm.",
        "gain of the largest share with at most 90 % of the update",
        bound=-HARM,
    )
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
    best: dict[Condition, RestoredCondition] = {}
    for condition in dict.fromkeys(one.condition for one in sweep):
        chosen = choose(study, [Candidate(condition, one) for one in sweep if one.condition == condition])
        if chosen is None or chosen.restoration is None:
            note = "no dev questions to choose a share on"
            return [harmless, *(replace(part, note=note) for part in (gains, larger, unknown))]
        best[condition] = chosen.restoration
    gained = {condition: gain(one) for condition, one in best.items()}
    shares = listed(sorted({f"{one.percent:g} %" for one in best.values()}))
    compared = f"{shares} of {len(best)} cells of data kind and size"
    gains = replace(gains, estimate=mean_of(list(gained.values())), compared=compared)
    return [harmless, gains, _by_size(larger, gained), _by_level(unknown, gained)]


def _harmless(part: Part, sweep: list[RestoredCondition], concentration: pd.DataFrame, gain: Callable) -> Part:
    """Part a: the gain of the largest share that undoes at most `MOST_UNDONE` of the summed relative change."""
    held = shares_held(concentration)
    shares = {one: mean_undone(held, one) for one in sweep}
    undone = {one: share for one, share in shares.items() if share is not None}
    conditions = {one.condition for one in sweep}
    percents = [
        percent
        for percent in sorted({one.percent for one in sweep})
        if {one.condition for one in sweep if one.percent == percent} == conditions
        and all(one in undone for one in sweep if one.percent == percent)
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
    """Part c: the gain at the largest restored size minus that at the smallest, mean over data kinds."""
    by_data: dict[str, list[Condition]] = {}
    for condition in sorted(gained, key=lambda condition: condition.size):
        by_data.setdefault(condition.data, []).append(condition)
    pairs = [(conditions[0], conditions[-1]) for conditions in by_data.values() if len(conditions) > 1]
    if not pairs:
        return replace(part, note="no data kind was restored at two sizes")
    compared = "; ".join(f"{small.data}: {small.size:,} and {large.size:,} facts" for small, large in pairs)
    return replace(part, estimate=mean_of([gained[large] - gained[small] for small, large in pairs]), compared=compared)


def _by_level(part: Part, gained: Mapping[Condition, Estimate]) -> Part:
    """Part d: the gain of the least known data minus that of the best known, mean over sizes."""
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
