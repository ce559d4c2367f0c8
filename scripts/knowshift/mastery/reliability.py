"""How reliable mastery and levels are: what one half of a fact's completions says about the other half."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class Reliability:
    """How well two halves of the completions, and the templates, agree over facts; NaN where it cannot be told.

    Attributes:
        facts: number of facts with completions in both halves.
        agreement: share of the facts whose level is the same by either half.
        correlation: Pearson's correlation of R by one half with R by the other.
        spearman_brown: reliability of R by all completions, 2 r / (1 + r) (Spearman 1910, Brown 1910).
        template_correlations: Pearson's correlation of the successes of every two templates.
    """

    facts: int
    agreement: float
    correlation: float
    spearman_brown: float
    template_correlations: tuple[float, ...]


def measure_reliability(halves: np.ndarray, levels: np.ndarray, successes: np.ndarray) -> Reliability:
    """Compare the halves of the completions, and the templates.

    Args:
        halves: (F, 2) R by either half of the completions; NaN for a half without completions.
        levels: (F, 2) the levels that follow.
        successes: (F, T) completions with the object, per template.
    """
    both = ~np.isnan(halves).any(1)
    halves, levels = halves[both], levels[both]
    r = _correlation(*halves.T)
    pairs = combinations(range(successes.shape[1]), 2)
    return Reliability(
        facts=len(halves),
        agreement=float((levels[:, 0] == levels[:, 1]).mean()) if len(levels) else float("nan"),
        correlation=r,
        spearman_brown=2 * r / (1 + r) if r > -1 else float("nan"),
        template_correlations=tuple(_correlation(successes[:, one], successes[:, other]) for one, other in pairs),
    )


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation; NaN if a variable is constant."""
    if len(one) < 2 or one.std() == 0 or other.std() == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


@dataclass(frozen=True)
class LevelRegression:
    """What to expect of facts whose level was observed in the first half of their completions.

    Attributes:
        level: the level observed in the first half.
        facts: number of facts at it.
        observed: their mean R in the first half.
        expected: their mean R in the second half, which took no part in choosing them.
        error: standard error of `expected` over facts; NaN with one fact.
        same_level: share of them that the second half puts at the same level.
    """

    level: int
    facts: int
    observed: float
    expected: float
    error: float
    same_level: float


def regress_levels(halves: np.ndarray, levels: np.ndarray, of: Sequence[int]) -> list[LevelRegression]:
    """Find, per level observed in the first half of the completions, the mean R of the second half.

    A level is observed with error, so facts observed at an extreme level lie on average nearer to the middle
    (regression to the mean). Levels without facts are left out.

    Args:
        halves: (F, 2) R by either half of the completions; NaN for a half without completions.
        levels: (F, 2) the levels that follow.
        of: the levels to look at.
    """
    both = ~np.isnan(halves).any(1)
    halves, levels = halves[both], levels[both]
    found = []
    for level in of:
        mine = levels[:, 0] == level
        if not (count := int(mine.sum())):
            continue
        first, second = halves[mine].T
        error = float(second.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
        same = float((levels[mine, 1] == level).mean())
        found.append(LevelRegression(level, count, float(first.mean()), float(second.mean()), error, same))
    return found
