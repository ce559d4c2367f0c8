"""What became of the facts of one base model in one fine-tuned model: kept, lost, learned, with intervals."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["kept", "lost", "learned", "unknown"]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Proportion:
    """A share of some facts, with its 95 % interval by Wilson's score method.

    Attributes:
        count: the facts that have the property.
        of: all facts that are looked at.
        value: `count` / `of`; NaN if `of` is 0, as are the ends of the interval.
        low: the lower end of the interval.
        high: the upper end of the interval.
    """

    count: int
    of: int
    value: float
    low: float
    high: float


def proportion(count: int, of: int) -> Proportion:
    """Estimate a share from `count` of `of` facts."""
    if not of:
        return Proportion(count, of, math.nan, math.nan, math.nan)
    from statsmodels.stats.proportion import proportion_confint  # slow to import (scipy.stats)

    ends: Any = proportion_confint(count, of, alpha=1 - CONFIDENCE, method="wilson")  # its stubs allow for arrays
    return Proportion(count, of, count / of, float(ends[0]), float(ends[1]))


def outcome(before: bool, after: bool) -> Outcome:
    """Name what became of a fact that was answered right or wrong before and after fine-tuning."""
    if before:
        return "kept" if after else "lost"
    return "learned" if after else "unknown"


@dataclass(frozen=True)
class Fate:
    """What became of some facts.

    Attributes:
        kept: the number of facts answered right before and after.
        lost: right before, wrong after.
        learned: wrong before, right after.
        unknown: wrong before and after.
    """

    kept: int
    lost: int
    learned: int
    unknown: int

    @property
    def facts(self) -> int:
        """The number of all facts."""
        return self.kept + self.lost + self.learned + self.unknown

    @property
    def before(self) -> Proportion:
        """The share answered right by the base."""
        return proportion(self.kept + self.lost, self.facts)

    @property
    def after(self) -> Proportion:
        """The share answered right by the fine-tuned model."""
        return proportion(self.kept + self.learned, self.facts)

    @property
    def lost_of_known(self) -> Proportion:
        """The share of the facts known before that was lost."""
        return proportion(self.lost, self.kept + self.lost)

    @property
    def kept_of_known(self) -> Proportion:
        """The share of the facts known before that was kept."""
        return proportion(self.kept, self.kept + self.lost)

    @property
    def learned_of_unknown(self) -> Proportion:
        """The share of the facts not known before that was learned."""
        return proportion(self.learned, self.learned + self.unknown)

    @property
    def change(self) -> tuple[float, float, float]:
        """The change of the share of right answers and the ends of its 95 % interval.

        Both models answer the same questions, so the interval is that of a difference of paired proportions, made from
        the two Wilson intervals and the correlation of the answers (Newcombe 1998, method 10).
        """
        if not self.facts:
            return math.nan, math.nan, math.nan
        old, new = self.before, self.after
        product = (self.kept + self.lost) * (self.learned + self.unknown)
        product *= (self.kept + self.learned) * (self.lost + self.unknown)
        excess = self.kept * self.unknown - self.lost * self.learned
        if excess > 0:
            excess = max(excess - self.facts / 2, 0)
        phi = excess / math.sqrt(product) if product else 0.0

        def half(one: float, other: float) -> float:
            return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0))

        value = (self.learned - self.lost) / self.facts
        down = half(new.value - new.low, old.high - old.value)
        up = half(new.high - new.value, old.value - old.low)
        return value, value - down, value + up

    @property
    def p_value(self) -> float:
        """The two-sided p value of McNemar's exact test that as many facts are lost as are learned."""
        from scipy.stats import binomtest  # slow to import

        changed = self.lost + self.learned
        return float(binomtest(self.lost, changed).pvalue) if changed else 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return counts, shares and the change as JSON values; what is not known is None."""
        shares = ("before", "after", "kept_of_known", "lost_of_known", "learned_of_unknown")
        columns = {name: asdict(getattr(self, name)) for name in shares}
        value, low, high = self.change
        columns["change"] = {"value": value, "low": low, "high": high, "p_value": self.p_value}
        known = {
            name: {key: None if number != number else number for key, number in column.items()}
            for name, column in columns.items()
        }
        return {"facts": self.facts, **asdict(self), **known}


def fate_of(pairs: Iterable[tuple[bool, bool]]) -> Fate:
    """Count what became of facts.

    Args:
        pairs: per fact, whether it was answered right before and after fine-tuning.
    """
    counts: dict[str, int] = {"kept": 0, "lost": 0, "learned": 0, "unknown": 0}
    for before, after in pairs:
        counts[outcome(before, after)] += 1
    return Fate(**counts)
