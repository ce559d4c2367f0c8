"""Verdicts on claims: a claim holds, does not hold, or cannot be told.

Every part of a claim is one number with a bound. The part holds if the number is told apart from the bound and lies
above it, does not hold if it is told apart and lies below, and cannot be told otherwise: either verdict needs the same
evidence. The parts of all claims are one family, corrected together by Holm's method. A claim holds if all of its parts
hold, and does not hold if one of them does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from knowshift.analysis.columns import known
from knowshift.analysis.contrasts import FEWEST_SEEDS, POWER
from knowshift.analysis.estimates import holm

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
LEVEL = 0.05  # the chance of one or more wrong verdicts on a model, at most


class Evidence(Protocol):
    """The number that decides a part, with what can be inferred from it."""

    @property
    def value(self) -> float:
        """The number; NaN if it is not known."""
        ...

    @property
    def seeds(self) -> int:
        """The smallest number of draws of the training set per data kind."""
        ...

    @property
    def is_testable(self) -> bool:
        """Whether a test can be made."""
        ...

    @property
    def standard_error(self) -> float | None:
        """The standard error, over draws and facts; None if there is none."""
        ...

    @property
    def df(self) -> float | None:
        """The degrees of freedom of the variance over draws; None if there are none."""
        ...

    def tails(self, bound: float) -> tuple[float, float]:
        """The one-sided p values of "not above the bound" and of "not below the bound"."""
        ...

    def interval(self, level: float) -> tuple[float, float] | None:
        """The interval that misses the true value with probability of at most `level`; None if there is none."""
        ...

    def detectable(self, level: float, bound: float) -> float:
        """The smallest distance from the bound that would have been seen with probability `POWER`."""
        ...

    def seeds_needed(self, level: float, bound: float) -> int | None:
        """How many draws per data kind would show the observed distance from the bound; None: seeds are not enough."""
        ...


@dataclass(frozen=True)
class Part:
    """One number that decides a part of a claim.

    Attributes:
        claim: The number of the claim, 1 to 4.
        part: The letter of the part.
        statement: What the part says.
        measure: What the number is.
        unit: The unit: points, nats or correlation.
        bound: The part holds above this value, and does not hold below it.
        compared: The data kinds, sizes and shares that the number is computed from.
        evidence: The number; None if it could not be computed.
        note: Why the number is missing, or how this run differs from the paper's.
        cannot_hold: Why a value above the bound would not mean that the part holds; None if it would.
        decides: Whether the claim as a whole depends on the part.
        level: The level of the part's test and interval, after correction; None until `correct` was called.
        p: The p value of the difference from the bound, two-sided; None if there is no test.
        p_corrected: The same after correction.
    """

    claim: int
    part: str
    statement: str
    measure: str
    unit: str = "points"
    bound: float = 0.0
    compared: str = ""
    evidence: Evidence | None = None
    note: str | None = None
    cannot_hold: str | None = None
    decides: bool = True
    level: float | None = None
    p: float | None = None
    p_corrected: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether the number could be computed."""
        return self.evidence is not None and not np.isnan(self.evidence.value)

    @property
    def is_testable(self) -> bool:
        """Whether the part is a member of the family of tests."""
        return self.evidence is not None and self.is_known and self.evidence.is_testable

    @property
    def verdict(self) -> str:
        """`HOLDS`, `FAILS` or `OPEN`."""
        if self.evidence is None or self.p_corrected is None or self.p_corrected > LEVEL:
            return OPEN
        above, below = self.evidence.tails(self.bound)
        if above > below:
            return FAILS
        return OPEN if self.cannot_hold else HOLDS

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval at the part's corrected level; None if there is none."""
        return self.evidence.interval(self.level) if self.evidence and self.level else None

    @property
    def margin(self) -> float:
        """The corrected p value: of the parts that hold, the largest one holds by least."""
        return 1.0 if self.p_corrected is None else self.p_corrected

    @property
    def detectable(self) -> float | None:
        """The smallest distance from the bound that would have been seen; None without a test."""
        return known(self.evidence.detectable(self.level, self.bound)) if self.evidence and self.level else None

    @property
    def needed(self) -> str | None:
        """What would be needed to tell, in one sentence; None if the part was decided or has no number."""
        if self.verdict != OPEN or self.evidence is None or not self.is_known:
            return None
        if self.evidence.seeds < FEWEST_SEEDS:
            return f"It needs at least {FEWEST_SEEDS} seeds, and there {_are(self.evidence.seeds)}."
        if self.level is None:
            return "It needs more questions or cells: these leave nothing to compute a variance or a test from."
        if self.cannot_hold and self.p_corrected is not None and self.p_corrected <= LEVEL:
            return f"It needs another comparison: {self.cannot_hold}."
        distance, seen = (abs(self.evidence.value - self.bound), self.detectable)
        sentence = f"It lies {measured(distance, self.unit)} from the bound"
        if seen is None or not np.isfinite(seen):
            return f"{sentence}, and so few cells show no effect: it needs more cells."
        sentence += f", and {measured(seen, self.unit)} would have been seen with {POWER:.0%} probability".replace(
            "%", " %"
        )
        seeds = self.evidence.seeds_needed(self.level, self.bound)
        more = f"about {seeds} seeds" if seeds else "more seeds and more questions"
        return f"{sentence}: it needs a larger effect, or {more}."

    @property
    def row(self) -> dict:
        """The part as a row of the schema `CLAIMS`."""
        kept = {
            name: getattr(self, name)
            for name in ("claim", "part", "statement", "measure", "unit", "bound", "compared", "p", "p_corrected")
        }
        note = self.note
        if self.evidence is not None and not self.is_known:
            note = "a mastery level has no questions, or a fact no divergence"
        numbers = {}
        if self.evidence is not None and self.is_known:
            low, high = self.interval or (None, None)
            numbers = {
                "value": known(self.evidence.value),
                "low": known(low),
                "high": known(high),
                "confidence": None if self.level is None or low is None else 1 - self.level,
                "seeds": self.evidence.seeds,
                "standard_error": known(self.evidence.standard_error),
                "df": known(self.evidence.df),
                "detectable": self.detectable,
            }
        return kept | numbers | {"verdict": self.verdict, "note": note, "needed": self.needed}


def correct(parts: Sequence[Part]) -> list[Part]:
    """Test every part that can be tested, correct the family, and give every part the level of its interval.

    Holm's method goes through the p values from the smallest up, and compares the k-th of m with `LEVEL` / (m - k + 1)
    until one is larger; that level is left for all that follow. A part's interval at its level excludes the bound just
    where the part is decided.
    """
    p = {
        index: min(1.0, 2 * min(part.evidence.tails(part.bound)))
        for index, part in enumerate(parts)
        if part.evidence is not None and part.is_testable
    }
    corrected = dict(zip(p, holm(np.array(list(p.values()))), strict=True)) if p else {}
    level, levels, stopped = LEVEL, {}, False
    for rank, index in enumerate(sorted(p, key=lambda index: p[index])):
        if not stopped:
            level = LEVEL / (len(p) - rank)
            stopped = p[index] > level
        levels[index] = level
    return [
        replace(part, level=levels[index], p=p[index], p_corrected=float(corrected[index])) if index in p else part
        for index, part in enumerate(parts)
    ]


def whole(statement: str, parts: Sequence[Part]) -> dict:
    """The row of a claim as a whole, with the number that decides it.

    The number is that of a part that fails, else of one that is open, else of the one that holds by least.
    """
    parts = [part for part in parts if part.decides]
    verdicts = [part.verdict for part in parts]
    verdict = FAILS if FAILS in verdicts else OPEN if OPEN in verdicts else HOLDS
    deciding = [part for part in parts if part.verdict == verdict]
    first = min(deciding, key=lambda part: part.evidence is None)  # one with a number, if there is one
    if verdict == HOLDS:
        first = max(deciding, key=lambda part: part.margin)
    return first.row | {"part": None, "statement": statement, "verdict": verdict}


def listed(values: Sequence) -> str:
    """Values in one line of text, separated by commas."""
    return ", ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in values)


def measured(value: float, unit: str) -> str:
    """A distance with its unit, as a sentence has it."""
    if unit == "points":
        return f"{100 * value:.1f} points"
    return f"{value:.2f} nats" if unit == "nats" else f"{value:.2f}"


def _are(count: int) -> str:
    return f"is {count}" if count == 1 else f"are {count}"
