"""The paper's fourth claim: most of what fine-tuning changed can be undone without harm, often with gain."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.contrasts import Arm, single
from knowshift.analysis.restoration_tests import mean_undone, shares_held
from knowshift.analysis.study import Condition, RestoredCondition, Study
from knowshift.analysis.verdicts import Part, listed

MOST_UNDONE = 0.9  # share of the summed change
NEAR = 0.8  # share of the summed change that counts as most of it
HARM = 0.02  # loss of accuracy; a smaller loss counts as none
SHARE, SQUARES = "share_without_zeros", "share_of_squares"  # columns of `CONCENTRATION`
NULL_LINES = {SHARE: "null_share", SQUARES: "null_share_of_squares"}  # and those of their null lines

_Gains = Mapping[int, Answerer]  # seed to its restored model


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
        "gain of the largest share with at most 90 % of the summed relative change",
        bound=-HARM,
    )
    gains = Part(
        4, "b", "Restoring the share that is best on dev gains accuracy.", "gain of the share that others chose on dev"
    )
    larger = Part(4, "c", "Larger data gains more.", "gain at the largest restored size less at the smallest")
    unknown = Part(4, "d", "Less-known data gains more.", "gain of the least known data less of the best known")
    squares = Part(
        4,
        "e",
        "Up to 90 % of the squared change can be undone without harm.",
        "gain of the largest share with at most 90 % of the summed squared change",
        bound=-HARM,
        decides=False,
    )
    sweep = [
        one
        for one in study.restorations
        if one.condition.method == study.main_method
        and one.strategy == "top"
        and one.region == "transformer"
        and one.percent
    ]
    twin = [squares] if SQUARES in concentration else []
    if not sweep:
        return [replace(part, note="nothing was restored") for part in (harmless, gains, larger, unknown, *twin)]
    harmless = _harmless(harmless, sweep, concentration, SHARE, panel, "summed relative change")
    twin = [_harmless(part, sweep, concentration, SQUARES, panel, "summed squared change") for part in twin]
    if "dev" not in study.panels:
        note = "no dev questions to choose a share on"
        return [harmless, *(replace(part, note=note) for part in (gains, larger, unknown)), *twin]
    chosen = {
        condition: _chosen_by_others(study.panels["dev"], [one for one in sweep if one.condition == condition])
        for condition in dict.fromkeys(one.condition for one in sweep)
    }
    percents = {model.percent for models in chosen.values() for model in models.values() if model.percent}
    shares = listed([f"{percent:g} %" for percent in sorted(percents)])
    compared = f"{shares} of {len(chosen)} cells of data kind and size"
    weight = 1 / len(chosen)
    arms = [arm for condition, models in chosen.items() for arm in _gain(condition, models, weight)]
    gains = replace(gains, evidence=single(panel.compare(arms)), compared=compared)
    return [harmless, gains, _by_size(larger, chosen, panel), _by_level(unknown, chosen, panel), *twin]


def _gain(condition: Condition, models: _Gains, weight: float) -> list[Arm]:
    """The gain of restored models over the same runs unrestored, paired by seed, as arms of a contrast."""
    unrestored = {seed: Answerer(model.run) for seed, model in models.items()}
    return [Arm(weight, condition.data, dict(models)), Arm(-weight, condition.data, unrestored)]


def _chosen_by_others(dev: Panel, sweep: Sequence[RestoredCondition]) -> dict[int, Answerer]:
    """Seed to its model restored by the share that is best on dev with the other seeds.

    A share that is chosen with the draws on which it is then judged looks better than it is with new draws, also on
    other questions; so a seed has no part in the choice of its own share. Among equals it is the smaller share; a
    single seed chooses for itself.

    Args:
        dev: The answers to dev.
        sweep: One condition with several shares restored.
    """
    models = {one.percent: dict(zip(one.seeds, one.answerers, strict=True)) for one in sweep}
    chosen = {}
    for seed in sorted({seed for restored in models.values() for seed in restored}):
        mine = [percent for percent in sorted(models) if seed in models[percent]]

        def on_dev(percent: float, seed: int = seed) -> float:
            others = [model for other, model in models[percent].items() if other != seed]
            return round(dev.known_level_mean(others or [models[percent][seed]]), 12)

        chosen[seed] = models[max(mine, key=on_dev)][seed]
    return chosen


def _harmless(
    part: Part, sweep: list[RestoredCondition], concentration: pd.DataFrame, measure: str, panel: Panel, of: str
) -> Part:
    """Parts a and e: the gain of the largest share that undoes at most `MOST_UNDONE` of a summed change.

    Args:
        part: The part.
        sweep: What was restored.
        concentration: A table in the schema `CONCENTRATION`.
        measure: The column of the share of the sum.
        panel: The answers to the in-domain test set.
        of: What is summed, as a sentence has it.
    """
    held = shares_held(concentration, measure)
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
        return replace(part, note=f"no share that all cells were restored by is known to hold at most 90 % of the {of}")
    chosen = [one for one in sweep if one.percent == percents[-1]]
    share = float(np.mean([undone[one] for one in chosen]))
    arms = [
        arm
        for one in chosen
        for arm in _gain(one.condition, dict(zip(one.seeds, one.answerers, strict=True)), 1 / len(chosen))
    ]
    return replace(
        part,
        evidence=single(panel.compare(arms)),
        compared=f"{percents[-1]:g} % of parameters, {_percent(share)} of the {of}"
        f"{_by_chance(concentration, NULL_LINES[measure], chosen)}, mean over {len(chosen)} cells",
        note=f"a loss of less than {100 * HARM:g} points counts as none",
        cannot_hold=None
        if share >= NEAR
        else f"a share that holds {_percent(NEAR)} to {_percent(MOST_UNDONE)} of the {of}",
    )


def _by_chance(concentration: pd.DataFrame, null: str, chosen: Sequence[RestoredCondition]) -> str:
    """What the same parameters hold if changes are permuted, as a sentence has it; empty if it was not measured."""
    if null not in concentration:
        return ""
    held = shares_held(concentration, null)
    shares = [mean_undone(held, one) for one in chosen]
    known_shares = [share for share in shares if share is not None]
    return f" ({_percent(float(np.mean(known_shares)))} by chance)" if known_shares else ""


def _percent(share: float) -> str:
    """A share as a sentence has it."""
    return f"{100 * share:.0f} %"


def _by_size(part: Part, chosen: Mapping[Condition, _Gains], panel: Panel) -> Part:
    """Part c: the gain at the largest restored size minus that at the smallest, mean over data kinds."""
    by_data: dict[str, list[Condition]] = {}
    for condition in sorted(chosen, key=lambda condition: condition.size):
        by_data.setdefault(condition.data, []).append(condition)
    pairs = [(conditions[0], conditions[-1]) for conditions in by_data.values() if len(conditions) > 1]
    if not pairs:
        return replace(part, note="no data kind was restored at two sizes")
    compared = "; ".join(f"{small.data}: {small.size:,} and {large.size:,} facts" for small, large in pairs)
    return _difference(part, [(large, small) for small, large in pairs], chosen, panel, compared)


def _by_level(part: Part, chosen: Mapping[Condition, _Gains], panel: Panel) -> Part:
    """Part d: the gain of the least known data minus that of the best known, mean over sizes."""
    by_size: dict[int, list[Condition]] = {}
    for condition in sorted(
        (condition for condition in chosen if condition.data != "mixed"), key=lambda condition: condition.data
    ):
        by_size.setdefault(condition.size, []).append(condition)
    pairs = [(conditions[0], conditions[-1]) for conditions in by_size.values() if len(conditions) > 1]
    if not pairs:
        return replace(part, note="no two levels were restored at one size")
    compared = "; ".join(f"{low.data} and {high.data} at {low.size:,} facts" for low, high in pairs)
    return _difference(part, pairs, chosen, panel, compared)


def _difference(
    part: Part,
    pairs: Sequence[tuple[Condition, Condition]],
    chosen: Mapping[Condition, _Gains],
    panel: Panel,
    compared: str,
) -> Part:
    """A part about the gain of one condition less that of another, mean over pairs."""
    weight = 1 / len(pairs)
    arms = [
        arm
        for one, other in pairs
        for condition, sign in ((one, 1), (other, -1))
        for arm in _gain(condition, chosen[condition], sign * weight)
    ]
    return replace(part, evidence=single(panel.compare(arms)), compared=compared)
