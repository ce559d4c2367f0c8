"""The paper's four claims, judged on the in-domain test set of one model's study."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.analysis.answer_matrix import Panel
from knowshift.analysis.claim_restoration import restoration_parts
from knowshift.analysis.columns import table
from knowshift.analysis.contrasts import Comparison, Contrast, single
from knowshift.analysis.rank_tests import RankCorrelation
from knowshift.analysis.schemas import CLAIMS
from knowshift.analysis.shifts import Shift
from knowshift.analysis.study import Condition, Study
from knowshift.analysis.verdicts import Part, correct, listed, whole

PAPER_SIZES = (60, 120, 240, 480, 960, 1920)
PAPER_PEAK, PAPER_LARGEST = 240, 1920
FEWEST_SIZES = 3  # a smallest, a middle and a largest
RANGE = 0.12  # difference of accuracy between the best and the worst data kind

STATEMENTS = {
    1: "Accuracy peaks near 240 training facts and falls by 1,920 (by up to 14 points).",
    2: "At 1,920 facts the mastery level of the data moves accuracy by over 12 points; level 0 is worst,"
    " a middle level best.",
    3: "KL to the pre-trained model first falls, then rises with data size, and tracks the loss of accuracy.",
    4: "Up to 90 % of the update can be undone without harm, often with gain (10 points at best), more for larger or"
    " less-known data.",
}


def tabulate_claims(study: Study, shifts: Mapping[str, Shift], concentration: pd.DataFrame) -> pa.Table:
    """Give a verdict on every claim and every part of it, in the schema `CLAIMS`.

    Args:
        study: The study.
        shifts: Set name to divergence and accuracy on level 4.
        concentration: A table in the schema `CONCENTRATION`.
    """
    rows = []
    parts = judge(study, shifts, concentration)
    for claim, statement in STATEMENTS.items():
        mine = [part for part in parts if part.claim == claim]
        rows.append(whole(statement, mine))
        rows += [part.row for part in mine]
    return table(rows, CLAIMS)


def judge(study: Study, shifts: Mapping[str, Shift], concentration: pd.DataFrame) -> list[Part]:
    """The parts of all claims, tested as one family.

    Args:
        study: The study.
        shifts: Set name to divergence and accuracy on level 4.
        concentration: A table in the schema `CONCENTRATION`.
    """
    panel = study.panels["test"]
    return correct(
        [
            *_peak(study, panel),
            *_levels(study, panel),
            *_divergence(study, shifts.get("test")),
            *restoration_parts(study, panel, concentration),
        ]
    )


def _scale(sizes: Sequence[int]) -> str | None:
    """A note that says how the sizes differ from the paper's; None if they do not."""
    if tuple(sizes) == PAPER_SIZES:
        return None
    return f"the paper's sizes are {listed(PAPER_SIZES)}; this run's are {listed(sizes)}"


def peak_size(sizes: Sequence[int]) -> int:
    """The size that stands for the paper's 240: of those between smallest and largest, the nearest on a log scale.

    If 240 lies outside the sizes, it is the nearest to an eighth of the largest size, as 240 is an eighth of 1,920.

    Args:
        sizes: At least three sizes, rising.
    """
    inside = sizes[0] < PAPER_PEAK < sizes[-1]
    target = PAPER_PEAK if inside else sizes[-1] * PAPER_PEAK / PAPER_LARGEST
    return min(sizes[1:-1], key=lambda size: abs(np.log(size / target)))


def _between(of: Panel | Shift, study: Study, kinds: Sequence[str], size: int, other: int) -> Comparison:
    """The mean over data kinds of a number at one size less the same at another."""
    method, share = study.main_method, 1 / len(kinds)
    return single(
        of.compare(
            [
                study.condition(method, data, facts).arm(sign * share)
                for data in kinds
                for facts, sign in ((size, 1), (other, -1))
            ]
        )
    )


def _few_sizes(study: Study) -> str:
    """Why there is no middle size."""
    sizes = sorted({one.size for one in study.conditions if one.method == study.main_method and one.asked != "all"})
    if not sizes:
        return "it needs models that were fine-tuned here at three sizes"
    return f"it needs a data kind that was run at three sizes; this run's sizes are {listed(sizes)}"


def _peak(study: Study, panel: Panel) -> list[Part]:
    """The parts of claim 1."""
    rise = Part(
        1,
        "a",
        "Accuracy rises from the smallest size to a middle one.",
        "accuracy at the middle size less at the smallest",
    )
    fall = Part(
        1, "b", "Accuracy falls from there to the largest size.", "accuracy at the middle size less at the largest"
    )
    kinds, sizes = study.curves(study.main_method, FEWEST_SIZES)
    if not kinds:
        return [replace(part, note=_few_sizes(study)) for part in (rise, fall)]
    peak, parts = peak_size(sizes), []
    for part, other in ((rise, sizes[0]), (fall, sizes[-1])):
        compared = f"{listed([peak, other])} facts, {_mean_over(kinds)}"
        evidence = _between(panel, study, kinds, peak, other)
        parts.append(replace(part, evidence=evidence, compared=compared, note=_scale(sizes)))
    return parts


def _mean_over(kinds: Sequence[str]) -> str:
    return kinds[0] if len(kinds) == 1 else f"mean over {listed(kinds)}"


def _levels(study: Study, panel: Panel) -> list[Part]:
    """The parts of claim 2."""
    method = study.main_method
    spread = Part(
        2,
        "a",
        "The mastery level of the data moves accuracy by over 12 points.",
        "best data kind less worst",
        bound=RANGE,
    )
    worst = Part(2, "b", "Level 0 is the worst data.", "worst of the other levels less level 0")
    best = Part(2, "c", "A middle level is the best data.", "best of levels 1 to 3 less the better of 0 and 4")
    kinds = sorted(kind for kind in study.kinds.get(method, []) if kind != "mixed")
    shared = set.intersection(*(set(study.sizes(method, kind)) for kind in kinds)) if kinds else set()
    if len(kinds) < 2 or not shared:
        note = "it needs two data kinds of single levels at one size"
        return [replace(part, note=note, compared=listed(kinds)) for part in (spread, worst, best)]
    size = max(shared)
    compared = f"{listed(kinds)} at {size:,} facts"
    differs = [] if size == PAPER_LARGEST else [f"the paper's size is {PAPER_LARGEST:,}"]
    lacking = [f"level{level}" for level in range(5) if f"level{level}" not in kinds]
    differs += [f"{listed(lacking)} not run"] if lacking else []
    note = "; ".join(differs) or None
    spread, worst, best = (replace(part, compared=compared, note=note) for part in (spread, worst, best))

    def less(kind: str, other: str) -> Contrast:
        return panel.compare([study.condition(method, kind, size).arm(1), study.condition(method, other, size).arm(-1)])

    spread = replace(spread, evidence=Comparison(tuple((less(*pair),) for pair in permutations(kinds, 2))))
    if "level0" in kinds:
        others = tuple(less(kind, "level0") for kind in kinds if kind != "level0")
        worst = replace(worst, evidence=Comparison((others,)))
    middle = [kind for kind in kinds if kind in ("level1", "level2", "level3")]
    if middle and "level0" in kinds and "level4" in kinds:
        grid = tuple(tuple(less(kind, end) for end in ("level0", "level4")) for kind in middle)
        best = replace(best, evidence=Comparison(grid))
    return [spread, worst, best]


def _divergence(study: Study, shift: Shift | None) -> list[Part]:
    """The parts of claim 3."""
    falls = Part(3, "a", "KL first falls with data size.", "KL at the smallest size less at the middle one", "nats")
    rises = Part(3, "b", "KL then rises.", "KL at the largest size less at the middle one", "nats")
    tracks = Part(
        3,
        "c",
        "KL tracks the loss of accuracy.",
        "rank correlation, within data kinds, of KL and of the accuracy lost on level 4",
        "correlation",
    )
    if shift is None or not shift.facts:
        return [replace(part, note="no level-4 test fact has a divergence") for part in (falls, rises, tracks)]
    conditions = [
        condition
        for condition in study.conditions
        if condition.method == study.main_method and all(run in shift.runs for run in condition.runs)
    ]
    tracks = _tracks(tracks, study, shift, conditions)
    kinds, sizes = study.curves(study.main_method, FEWEST_SIZES)
    if not kinds:
        return [*(replace(part, note=_few_sizes(study)) for part in (falls, rises)), tracks]
    needed = [study.condition(study.main_method, data, size) for data in kinds for size in sizes]
    if not all(one in conditions for one in needed):
        note = "it needs the divergence of all runs at these sizes"
        return [*(replace(part, note=note) for part in (falls, rises)), tracks]
    peak, parts = peak_size(sizes), []
    for part, other in ((falls, sizes[0]), (rises, sizes[-1])):
        compared = f"{listed([other, peak])} facts, {_mean_over(kinds)}"
        evidence = _between(shift, study, kinds, other, peak)
        parts.append(replace(part, evidence=evidence, compared=compared, note=_scale(sizes)))
    return [*parts, tracks]


def _tracks(part: Part, study: Study, shift: Shift, conditions: Sequence[Condition]) -> Part:
    """Part c of claim 3: divergence and accuracy lost over the sizes of each data kind."""
    by_kind: dict[str, list[Condition]] = {}
    for condition in conditions:
        by_kind.setdefault(condition.data, []).append(condition)
    several = {kind: mine for kind, mine in by_kind.items() if len(mine) > 1}
    cells = sum(map(len, several.values()))
    part = replace(part, compared=f"{cells} cells of data kind and size, {shift.facts} facts")
    if not several:
        return replace(part, note="it needs a data kind that was run at two sizes or more")
    means = [np.array([shift.means(one) for one in mine]) for mine in several.values()]
    kl, lost = [mine[:, 0] for mine in means], [-mine[:, 1] for mine in means]
    seeds = min(len(one.runs) for mine in several.values() for one in mine if one.asked != "all")
    found = RankCorrelation(kl, lost, seeds, study.rng("permutation", "KL within data kinds"))
    note = None
    if 2 / found.arrangements >= 0.05:
        ways = f"{found.arrangements:,} ways"
        kinds = "one data kind" if len(several) == 1 else f"{len(several)} data kinds"
        note = f"{cells} cells in {kinds} can be ordered in {ways}, which is too few to test"
    return replace(part, evidence=found, note=note)
