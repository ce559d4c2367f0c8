"""Verdicts on claims: does a claim hold, does it not, or can it not be told?

Every part of a claim is one number with a bound: it holds if the whole interval lies above the bound, does not hold if the
whole interval lies below, and cannot be told otherwise. A claim holds if all its parts do, and does not if one does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knowshift.analysis.columns import known
from knowshift.analysis.estimates import Estimate

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
        if self.estimate is None or np.isnan(self.estimate.value) or self._flat:
            return OPEN
        if self.estimate.low > self.bound:
            return HOLDS
        return FAILS if self.estimate.high < self.bound else OPEN

    @property
    def _flat(self) -> bool:
        """Whether the interval has no width: so few questions that resampling them changes nothing."""
        return self.estimate is not None and self.estimate.low == self.estimate.high

    @property
    def row(self) -> dict:
        estimate, note = self.estimate, self.note
        if estimate is not None and np.isnan(estimate.value):
            estimate, note = None, "a mastery level has no questions, or a fact no divergence"
        elif self._flat:
            note = "too few questions: the interval has no width"
        numbers = {name: known(getattr(estimate, name)) for name in ("value", "low", "high")} if estimate else {}
        kept = {
            name: getattr(self, name) for name in ("claim", "part", "statement", "measure", "unit", "bound", "compared")
        }
        return kept | numbers | {"verdict": self.verdict, "note": note}


def whole(statement: str, parts: Sequence[Part]) -> dict:
    """The verdict of a claim, with the number that decides it: of the part that fails, is open, or holds by least."""
    verdicts = [part.verdict for part in parts]
    verdict = FAILS if FAILS in verdicts else OPEN if OPEN in verdicts else HOLDS
    deciding = [part for part in parts if part.verdict == verdict]
    first = min(deciding, key=lambda part: part.estimate is None)  # one with a number, if there is one
    if verdict == HOLDS:
        first = min(deciding, key=lambda part: part.estimate.low - part.bound)
    return first.row | {"part": None, "statement": statement, "verdict": verdict}


def listed(values: Sequence) -> str:
    """Values in one line of text."""
    return ", ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in values)
