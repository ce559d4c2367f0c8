"""The paper's four claims, judged on the in-domain test set of one model's study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.analysis.answer_matrix import Panel
from knowshift.analysis.claim_restoration import restoration_parts
from knowshift.analysis.columns import table
from knowshift.analysis.estimates import Estimate, largest_of, mean_of, smallest_of
from knowshift.analysis.schemas import CLAIMS
from knowshift.analysis.shifts import FEWEST_POINTS, Shift, correlation
from knowshift.analysis.study import Condition, Study
from knowshift.analysis.verdicts import Part, listed, whole

PAPER_SIZES = (60, 120, 240, 480, 960, 1920)
PAPER_PEAK, PAPER_LARGEST = 240, 1920
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
    panel, method = study.panels["test"], study.main_method
    sizes = study.sizes(method)
    parts = {
        1: _peak(study, panel, sizes),
        2: _levels(study, panel),
        3: _divergence(study, shifts.get("test"), sizes),
        4: restoration_parts(study, panel, concentration),
    }
    rows = []
    for claim, mine in parts.items():
        rows.append(whole(STATEMENTS[claim], mine))
        rows += [part.row for part in mine]
    return table(rows, CLAIMS)


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


def _over_kinds(study: Study, size: int, of: Callable[[Condition], Estimate]) -> Estimate:
    """The mean of a number over all data kinds at one size."""
    method = study.main_method
    return mean_of([of(study.condition(method, data, size)) for data in study.kinds[method]])


def _peak(study: Study, panel: Panel, sizes: Sequence[int]) -> list[Part]:
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
    if len(sizes) < 3:
        note = f"a peak needs three sizes that every data kind was run at; there are {len(sizes)}"
        return [replace(part, note=note, compared=f"sizes {listed(sizes)}") for part in (rise, fall)]
    peak = peak_size(sizes)

    def at(size: int) -> Estimate:
        return _over_kinds(study, size, lambda condition: panel.headline(condition.answerers))

    kinds = f"facts, mean over {listed(study.kinds[study.main_method])}"
    compared = [f"{listed([peak, other])} {kinds}" for other in (sizes[0], sizes[-1])]
    return [
        replace(rise, estimate=at(peak) - at(sizes[0]), compared=compared[0], note=_scale(sizes)),
        replace(fall, estimate=at(peak) - at(sizes[-1]), compared=compared[1], note=_scale(sizes)),
    ]


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
    conditions = {kind: study.largest(method, kind)[0] for kind in kinds}
    same = len({condition.size for condition in conditions.values()}) == 1
    if len(kinds) < 2 or not same:
        note = "it needs two data kinds of single levels at one size"
        return [replace(part, note=note, compared=listed(kinds)) for part in (spread, worst, best)]
    accuracy = {kind: panel.headline(condition.answerers) for kind, condition in conditions.items()}
    size = next(iter(conditions.values())).size
    compared = f"{listed(kinds)} at {size:,} facts"
    differs = [] if size == PAPER_LARGEST else [f"the paper's size is {PAPER_LARGEST:,}"]
    lacking = [f"level{level}" for level in range(5) if f"level{level}" not in kinds]
    differs += [f"{listed(lacking)} not run"] if lacking else []
    note = "; ".join(differs) or None
    spread, worst, best = (replace(part, compared=compared, note=note) for part in (spread, worst, best))
    everyone = list(accuracy.values())
    spread = replace(spread, estimate=(largest_of(everyone) - smallest_of(everyone)).reflected)
    others = [accuracy[kind] for kind in kinds if kind != "level0"]
    if "level0" in kinds:
        worst = replace(worst, estimate=smallest_of(others) - accuracy["level0"])
    middle = [accuracy[kind] for kind in kinds if kind in ("level1", "level2", "level3")]
    if middle and "level0" in kinds and "level4" in kinds:
        best = replace(best, estimate=largest_of(middle) - largest_of([accuracy["level0"], accuracy["level4"]]))
    return [spread, worst, best]


def _divergence(study: Study, shift: Shift | None, sizes: Sequence[int]) -> list[Part]:
    """The parts of claim 3."""
    falls = Part(3, "a", "KL first falls with data size.", "KL at the smallest size less at the middle one", "nats")
    rises = Part(3, "b", "KL then rises.", "KL at the largest size less at the middle one", "nats")
    tracks = Part(
        3,
        "c",
        "KL tracks the loss of accuracy.",
        "rank correlation of KL and of the accuracy lost on level 4",
        "correlation",
    )
    if shift is None or not shift.facts:
        return [replace(part, note="no level-4 test fact has a divergence") for part in (falls, rises, tracks)]
    conditions = [
        condition
        for condition in study.conditions
        if condition.method == study.main_method and all(run in shift.kl for run in condition.runs)
    ]
    if len(sizes) < 3:
        note = f"it needs three sizes that every data kind was run at; there are {len(sizes)}"
        falls, rises = (replace(part, note=note, compared=f"sizes {listed(sizes)}") for part in (falls, rises))
    else:
        peak = peak_size(sizes)
        at = {size: _over_kinds(study, size, shift.mean_kl) for size in (sizes[0], peak, sizes[-1])}
        compared = [f"{listed([other, peak])} facts, mean over data kinds" for other in (sizes[0], sizes[-1])]
        falls = replace(falls, estimate=at[sizes[0]] - at[peak], compared=compared[0], note=_scale(sizes))
        rises = replace(rises, estimate=at[sizes[-1]] - at[peak], compared=compared[1], note=_scale(sizes))
    tracks = replace(tracks, compared=f"{len(conditions)} cells of data kind and size, {shift.facts} facts")
    found = correlation(shift, conditions)
    if found is None:
        return [falls, rises, replace(tracks, note=f"a correlation needs {FEWEST_POINTS} cells")]
    return [falls, rises, replace(tracks, estimate=Estimate(-found.value, -found.replicates))]
