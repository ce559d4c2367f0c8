"""Verdicts on claims: a claim holds, does not hold, or cannot be told.

Every part of a claim is one number with a bound. The part holds if the whole interval lies above the bound, does not
hold if the whole interval lies below it, and cannot be told otherwise. A claim holds if all of its parts hold, and does
not hold if one of them does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knowshift.analysis.columns import known
from knowshift.analysis.estimates import Estimate

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


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
        estimate: The number with its replicates; None if it could not be computed.
        note: Why the number is missing, or how this run differs from the paper's.
    """

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
        """`HOLDS`, `FAILS` or `OPEN`."""
        if self.estimate is None or np.isnan(self.estimate.value) or self._flat:
            return OPEN
        if self.estimate.low > self.bound:
            return HOLDS
        return FAILS if self.estimate.high < self.bound else OPEN

    @property
    def margin(self) -> float:
        """The distance of the interval's lower end above the bound; infinite without an estimate."""
        return float("inf") if self.estimate is None else self.estimate.low - self.bound

    @property
    def _flat(self) -> bool:
        """Whether the interval has no width because there are so few questions that resampling changes nothing."""
        return self.estimate is not None and self.estimate.low == self.estimate.high

    @property
    def row(self) -> dict:
        """The part as a row of the schema `CLAIMS`."""
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
    """The row of a claim as a whole, with the number that decides it.

    The number is that of a part that fails, else of one that is open, else of the one that holds by least.
    """
    verdicts = [part.verdict for part in parts]
    verdict = FAILS if FAILS in verdicts else OPEN if OPEN in verdicts else HOLDS
    deciding = [part for part in parts if part.verdict == verdict]
    first = min(deciding, key=lambda part: part.estimate is None)  # one with a number, if there is one
    if verdict == HOLDS:
        first = min(deciding, key=lambda part: part.margin)
    return first.row | {"part": None, "statement": statement, "verdict": verdict}


def listed(values: Sequence) -> str:
    """Values in one line of text, separated by commas."""
    return ", ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in values)
