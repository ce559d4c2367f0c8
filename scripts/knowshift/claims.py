"""The paper's four claims, put to one model's study: does each hold, does it not, or can it not be told?

Every part of a claim is one number with a bound: it holds if the whole interval lies above the bound, does not hold if the
whole interval lies below, and cannot be told otherwise. A claim holds if all its parts do, and does not if one does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.analysis_tables import CLAIMS
from knowshift.choices import Recipe, choose
from knowshift.comparisons import FEWEST_POINTS, Shift, correlation, share_undone
from knowshift.panels import Panel
from knowshift.statistics import Estimate, largest_of, mean_of, smallest_of
from knowshift.study import Cell, Restoration, Study, known, table

PAPER_SIZES = (60, 120, 240, 480, 960, 1920)
PAPER_PEAK, PAPER_LARGEST = 240, 1920
RANGE = 0.12  # of accuracy, between data kinds
MOST_UNDONE = 0.9  # of the summed relative change
HARM = 0.02  # of accuracy: a loss smaller than this is none

STATEMENTS = {
    1: "Accuracy peaks near 240 training facts and falls by 1,920.",
    2: "At 1,920 facts the mastery level of the data moves accuracy by over 12 points; level 0 is worst, a middle level best.",
    3: "KL to the pre-trained model first falls, then rises with data size, and tracks the loss of accuracy.",
    4: "Up to 90 % of the update can be undone without harm, often with gain; more for larger or less-known data.",
}
HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


@dataclass(frozen=True)
class Part:
    """One number that a claim stands or falls with; without an estimate the note says why there is none."""

    claim: int
    part: str
    statement: str
    measure: str
    unit: str = "points"
    bound: float = 0.0
    compared: str = ""
    estimate: Estimate | None = None
    note: str | None = None

    @property
    def verdict(self) -> str:
        if self.estimate is None or np.isnan(self.estimate.value):
            return OPEN
        if self.estimate.low > self.bound:
            return HOLDS
        return FAILS if self.estimate.high < self.bound else OPEN

    @property
    def row(self) -> dict:
        estimate, note = self.estimate, self.note
        if estimate is not None and np.isnan(estimate.value):
            estimate, note = None, "a mastery level has no questions, or a fact no divergence"
        numbers = {name: known(getattr(estimate, name)) for name in ("value", "low", "high")} if estimate else {}
        kept = {
            name: getattr(self, name) for name in ("claim", "part", "statement", "measure", "unit", "bound", "compared")
        }
        return kept | numbers | {"verdict": self.verdict, "note": note}


def tabulate_claims(study: Study, shifts: Mapping[str, Shift], concentration: pd.DataFrame) -> pa.Table:
    """A verdict per claim and per part of it, on the in-domain test set, in the schema `CLAIMS`.

    Args:
        shifts: by set.
        concentration: a table in the schema `CONCENTRATION`.
    """
    panel, method = study.panels["test"], study.main_method
    sizes = study.sizes(method) if method else []
    parts = {
        1: _peak(study, panel, sizes),
        2: _levels(study, panel),
        3: _divergence(study, shifts.get("test"), sizes),
        4: _restoration(study, panel, concentration),
    }
    rows = []
    for claim, mine in parts.items():
        rows.append(_whole(claim, mine))
        rows += [part.row for part in mine]
    return table(rows, CLAIMS)


def _whole(claim: int, parts: Sequence[Part]) -> dict:
    """The verdict of a claim, with the number that decides it: of the part that fails, is open, or holds by least."""
    verdicts = [part.verdict for part in parts]
    verdict = FAILS if FAILS in verdicts else OPEN if OPEN in verdicts else HOLDS
    deciding = [part for part in parts if part.verdict == verdict]
    first = deciding[0]
    if verdict == HOLDS:
        first = min(deciding, key=lambda part: part.estimate.low - part.bound)
    return first.row | {"part": None, "statement": STATEMENTS[claim], "verdict": verdict}


def _listed(values: Sequence) -> str:
    return ", ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in values)


def _scale(sizes: Sequence[int]) -> str | None:
    if tuple(sizes) == PAPER_SIZES:
        return None
    return f"the paper's sizes are {_listed(PAPER_SIZES)}; this run's are {_listed(sizes)}"


def peak_size(sizes: Sequence[int]) -> int:
    """The size between the smallest and the largest that stands for the paper's 240: the nearest on a log scale.

    Where 240 lies outside the sizes, the nearest to an eighth of the largest, as 240 is of 1,920.

    Args:
        sizes: at least three, rising.
    """
    inside = sizes[0] < PAPER_PEAK < sizes[-1]
    target = PAPER_PEAK if inside else sizes[-1] * PAPER_PEAK / PAPER_LARGEST
    return min(sizes[1:-1], key=lambda size: abs(np.log(size / target)))


def _over_kinds(study: Study, size: int, of: Callable[[Cell], Estimate]) -> Estimate:
    method = study.main_method
    return mean_of([of(study.cell(method, data, size)) for data in study.kinds[method]])


def _peak(study: Study, panel: Panel, sizes: Sequence[int]) -> list[Part]:
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
        return [replace(part, note=note, compared=f"sizes {_listed(sizes)}") for part in (rise, fall)]
    peak = peak_size(sizes)

    def at(size: int) -> Estimate:
        return _over_kinds(study, size, lambda cell: panel.headline(cell.answerers))

    kinds = f"facts, mean over {_listed(study.kinds[study.main_method])}"
    compared = [f"{_listed([peak, other])} {kinds}" for other in (sizes[0], sizes[-1])]
    return [
        replace(rise, estimate=at(peak) - at(sizes[0]), compared=compared[0], note=_scale(sizes)),
        replace(fall, estimate=at(peak) - at(sizes[-1]), compared=compared[1], note=_scale(sizes)),
    ]


def _levels(study: Study, panel: Panel) -> list[Part]:
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
    cells = {kind: study.largest(method, kind)[0] for kind in kinds}
    same = len({cell.size for cell in cells.values()}) == 1
    if len(kinds) < 2 or not same:
        note = "it needs two data kinds of single levels at one size"
        return [replace(part, note=note, compared=_listed(kinds)) for part in (spread, worst, best)]
    accuracy = {kind: panel.headline(cell.answerers) for kind, cell in cells.items()}
    size = next(iter(cells.values())).size
    compared = f"{_listed(kinds)} at {size:,} facts"
    differs = [] if size == PAPER_LARGEST else [f"the paper's size is {PAPER_LARGEST:,}"]
    lacking = [f"level{level}" for level in range(5) if f"level{level}" not in kinds]
    differs += [f"{_listed(lacking)} not run"] if lacking else []
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
    falls = Part(3, "a", "KL first falls with data size.", "KL at the smallest size less at the middle one", "nats")
    rises = Part(3, "b", "KL then rises.", "KL at the largest size less at the middle one", "nats")
    tracks = Part(3, "c", "KL tracks the loss of accuracy.", "rank correlation of KL and of the accuracy lost on level 4", "correlation")  # fmt: skip
    if shift is None or not shift.facts:
        return [replace(part, note="no level-4 test fact has a divergence") for part in (falls, rises, tracks)]
    cells = [
        cell for cell in study.cells if cell.method == study.main_method and all(run in shift.kl for run in cell.runs)
    ]
    if len(sizes) < 3:
        note = f"it needs three sizes that every data kind was run at; there are {len(sizes)}"
        falls, rises = (replace(part, note=note, compared=f"sizes {_listed(sizes)}") for part in (falls, rises))
    else:
        peak = peak_size(sizes)
        at = {size: _over_kinds(study, size, lambda cell: shift.of(cell)[0]) for size in (sizes[0], peak, sizes[-1])}
        compared = [f"{_listed([other, peak])} facts, mean over data kinds" for other in (sizes[0], sizes[-1])]
        falls = replace(falls, estimate=at[sizes[0]] - at[peak], compared=compared[0], note=_scale(sizes))
        rises = replace(rises, estimate=at[sizes[-1]] - at[peak], compared=compared[1], note=_scale(sizes))
    tracks = replace(tracks, compared=f"{len(cells)} cells of data kind and size, {shift.facts} facts")
    found = correlation(shift, cells)
    if found is None:
        return [falls, rises, replace(tracks, note=f"a correlation needs {FEWEST_POINTS} cells")]
    return [falls, rises, replace(tracks, estimate=Estimate(-found.value, -found.replicates))]


def _restoration(study: Study, panel: Panel, concentration: pd.DataFrame) -> list[Part]:
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
    shares = _listed(sorted({f"{recipe.restoration.percent:g} %" for recipe in best.values()}))
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
