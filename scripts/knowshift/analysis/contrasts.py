"""Contrasts between fine-tuned models whose variance is crossed: over draws of the training set and over facts.

A verdict is about the method and not about the draws or the questions that happened to be used. So the variance of a
contrast has a part over draws and a part over facts, and their interaction, which either part contains, counts once.
`docs/method.md` says why this method was chosen; the functions know arrays alone.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

FEWEST_SEEDS = 3  # draws per data kind below which no verdict is given
POWER = 0.8  # probability with which the smallest detectable effect is seen
_SMALLEST_TAIL = 1e-12  # p values below count as this
_ROUNDING = 1e-24  # variances below count as none


@dataclass(frozen=True)
class Arm:
    """What a contrast takes of one condition: a weight, and which column of a matrix of answers each seed has.

    Attributes:
        weight: The factor of the condition's mean.
        data: The data kind. Draws of one kind and seed are the same draw at every size, restored or not; draws of
            different kinds are independent, also under one seed.
        columns: Seed to the column of its model.
    """

    weight: float
    data: str
    columns: Mapping[int, Hashable]


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of means with its crossed variance.

    Attributes:
        value: The sum; NaN if a stratum has no facts.
        seeds: The smallest number of draws of a data kind.
        facts: The number of facts.
        seed_variance: The variance over draws, interaction included.
        seed_df: Its degrees of freedom; both are NaN with one draw per data kind.
        fact_variance: The variance over facts, without the interaction.
        fact_df: Its degrees of freedom.
        interaction: The part of `seed_variance` that the interaction of draws and facts makes up.
    """

    value: float
    seeds: int
    facts: int
    seed_variance: float
    seed_df: float
    fact_variance: float
    fact_df: float
    interaction: float

    @property
    def variance(self) -> float:
        """The variance over draws and over facts; over facts alone with one draw, which tells nothing of others."""
        return self.fact_variance if np.isnan(self.seed_variance) else self.seed_variance + self.fact_variance

    @property
    def standard_error(self) -> float:
        """The root of the variance."""
        return float(np.sqrt(self.variance))

    def critical(self, tail: float) -> float:
        """How many standard errors cut off a share `tail` of the distribution on one side, with no true contrast.

        It is the mean of Student's quantiles of both parts, weighted by their variances (Cochran and Cox 1950).
        """
        from scipy.special import stdtrit  # slow to import

        return self._weighted(-stdtrit(self.seed_df, tail), -stdtrit(self.fact_df, tail))

    def detectable(self, tail: float) -> float:
        """The smallest true distance from a bound that a one-sided test at `tail` sees with probability `POWER`."""
        from scipy.special import nctdtrinc, stdtrit  # slow to import

        parts = [nctdtrinc(df, 1 - POWER, -stdtrit(df, tail)) for df in (self.seed_df, self.fact_df)]
        return self._weighted(*parts) * self.standard_error

    def half_width(self, tail: float) -> float:
        """The half width of an interval that leaves `tail` on each side; infinite if nothing varies."""
        return self.critical(tail) * self.standard_error if self.variance else float("inf")

    def tails(self, bound: float) -> tuple[float, float]:
        """The one-sided p values of "not above the bound" and of "not below the bound"; both 1 if nothing varies."""
        from scipy.optimize import brentq  # slow to import

        if not self.variance:
            return 1.0, 1.0
        distance = (self.value - bound) / self.standard_error
        ends = float(np.log(_SMALLEST_TAIL)), float(np.log(0.5))
        if abs(distance) >= self.critical(_SMALLEST_TAIL):
            root = ends[0]
        elif abs(distance) <= self.critical(0.5):
            root = ends[1]
        else:
            root: Any = brentq(lambda log: self.critical(np.exp(log)) - abs(distance), *ends, xtol=1e-10)
        p = float(np.exp(root))
        return (p, 1 - p) if distance > 0 else (1 - p, p)

    def with_seeds(self, seeds: int) -> "Contrast":
        """What the contrast would be with another number of draws of every data kind, if variances stay as they are."""
        ratio = self.seeds / seeds
        return Contrast(
            self.value,
            seeds,
            self.facts,
            self.seed_variance * ratio,
            self.seed_df * (seeds - 1) / (self.seeds - 1),
            self.fact_variance,
            self.fact_df,
            self.interaction * ratio,
        )

    def _weighted(self, over_seeds: float, over_facts: float) -> float:
        """The mean of a number for the draws and a number for the facts, weighted by their variances."""
        parts = (self.seed_variance, over_seeds), (self.fact_variance, over_facts)
        return float(sum(variance * number for variance, number in parts if variance > 0) / self.variance)


def contrast(
    values: np.ndarray, columns: Mapping[Any, int], strata: np.ndarray, count: int, arms: Sequence[Arm]
) -> Contrast:
    """Compute a contrast of plain means over strata.

    Within a data kind a contrast is paired by seed: it takes the seeds that all arms of the kind have.

    Args:
        values: (N, C) answers, 0 or 1, or divergences: a row per fact and a column per model.
        columns: What arms call a column to its index.
        strata: (N,) the stratum of each fact, 0 to S-1.
        count: The number of strata, S; all have the same weight.
        arms: The conditions that are compared, at least one.
    """
    blocks = []
    for kind in dict.fromkeys(arm.data for arm in arms):
        mine = [arm for arm in arms if arm.data == kind]
        seeds = sorted(set.intersection(*(set(arm.columns) for arm in mine)))
        picked = [values[:, [columns[arm.columns[seed]] for seed in seeds]] for arm in mine]
        blocks.append(np.sum([arm.weight * one for arm, one in zip(mine, picked, strict=True)], axis=0))
    return crossed(blocks, strata, count)


def crossed(blocks: Sequence[np.ndarray], strata: np.ndarray, count: int) -> Contrast:
    """Compute a contrast that is a sum over independent groups of draws.

    Args:
        blocks: For each group (N, n): the contrast in every fact and draw; the value is the sum of the groups' means.
        strata, count: As in `contrast`.
    """
    sizes = np.bincount(strata, minlength=count)
    draws = np.array([block.shape[1] for block in blocks])
    seeds, facts = int(draws.min(initial=np.iinfo(np.int64).max)), int(sizes.sum())
    if not sizes.all() or not seeds:
        return Contrast(np.nan, seeds, facts, *[np.nan] * 5)

    def sums(numbers: np.ndarray) -> np.ndarray:
        """(S,) the sum over the facts of each stratum."""
        return np.bincount(strata, numbers, count)

    value, over_draws, between = 0.0, [], 0.0
    across = np.zeros(len(strata))  # the contrast in every fact, less its stratum's mean
    for block, number in zip(blocks, draws, strict=True):
        means = np.stack([sums(block[:, draw]) / sizes for draw in range(number)], axis=1)  # (S, n)
        value += float(means.mean())
        apart = block - means[strata]  # what sets facts apart, in each draw
        mean = apart.mean(1)
        across += mean
        if number > 1:
            over_draws.append(means.mean(0).var(ddof=1) / number)
            squares = sums(((apart - mean[:, None]) ** 2).sum(1))
            between += float((squares / (np.maximum(sizes - 1, 1) * (number - 1)) / sizes).sum() / number / count**2)
        else:
            over_draws.append(np.nan)
    spread = np.where(sizes > 1, sums(across**2) / np.maximum(sizes - 1, 1), _variance_of_all(blocks))
    over_facts = spread / sizes / count**2
    seed_variance, seed_df = _pooled(np.array(over_draws), draws - 1)
    fact_variance, fact_df = _pooled(over_facts, sizes - 1)
    return Contrast(value, seeds, facts, seed_variance, seed_df, max(fact_variance - between, 0.0), fact_df, between)


def _variance_of_all(blocks: Sequence[np.ndarray]) -> float:
    """The variance of all facts' means over draws, which stands in for that of a stratum of one fact."""
    facts = np.sum([block.mean(1) for block in blocks], axis=0)
    return float(facts.var(ddof=1)) if len(facts) > 1 else 0.0


def _pooled(variances: np.ndarray, df: np.ndarray) -> tuple[float, float]:
    """The sum of independent variances, and its degrees of freedom by Welch and Satterthwaite's formula.

    What is left by rounding where nothing varies counts as 0.
    """
    variances = np.where(variances < _ROUNDING, 0.0, variances)
    total, known = float(variances.sum()), np.maximum(df, 1)
    if not total:
        return 0.0, float(max(df.sum(), 1))
    return total, float(total**2 / (variances**2 / known).sum())


@dataclass(frozen=True)
class Comparison:
    """The largest, over rows, of the smallest, over columns, of a grid of contrasts; one contrast is a grid of one.

    What is best and what is worst is not chosen and then tested as if it had been known: for "above the bound" some
    row must be above it in all of its columns, which tests every column (intersection-union) and corrects for the
    number of rows (union-intersection, Bonferroni); for "below the bound" some column must be below it in all rows.
    The two need the same evidence, and the interval's ends follow from the same tests.

    Attributes:
        grid: Rows of contrasts, of equal length; the largest of the smallest must equal the smallest of the largest,
            as it does for differences of one quantity per row and one per column.
    """

    grid: tuple[tuple[Contrast, ...], ...]

    @property
    def everyone(self) -> list[Contrast]:
        """All contrasts."""
        return [one for row in self.grid for one in row]

    @property
    def seeds(self) -> int:
        """The smallest number of draws of a data kind."""
        return min(one.seeds for one in self.everyone)

    @cached_property
    def deciding(self) -> Contrast:
        """The contrast whose value is the comparison's."""
        return max((min(row, key=lambda one: one.value) for row in self.grid), key=lambda one: one.value)

    @property
    def value(self) -> float:
        """The largest of the rows' smallest values, as observed; NaN if one is not known."""
        return float("nan") if any(np.isnan(one.value) for one in self.everyone) else self.deciding.value

    @property
    def is_testable(self) -> bool:
        """Whether there are enough draws, and the deciding contrast varies."""
        return self.seeds >= FEWEST_SEEDS and self.deciding.variance > 0

    @property
    def standard_error(self) -> float:
        """That of the deciding contrast."""
        return self.deciding.standard_error

    @property
    def df(self) -> float:
        """The degrees of freedom of the deciding contrast's variance over draws."""
        return self.deciding.seed_df

    def tails(self, bound: float) -> tuple[float, float]:
        """The p values, corrected for the choice, of "not above the bound" and of "not below the bound"."""
        tails = np.array([[one.tails(bound) for one in row] for row in self.grid])
        above = len(self.grid) * tails[:, :, 0].max(1).min()
        below = len(self.grid[0]) * tails[:, :, 1].max(0).min()
        return min(1.0, float(above)), min(1.0, float(below))

    def interval(self, level: float) -> tuple[float, float]:
        """The interval whose ends miss the true value with probability of at most `level` together.

        It lies above (below) a bound just where the p value of `tails` is at most half of `level`.
        """
        rows, columns = len(self.grid), len(self.grid[0])
        low = [[one.value - one.half_width(level / 2 / rows) for one in row] for row in self.grid]
        high = [[one.value + one.half_width(level / 2 / columns) for one in row] for row in self.grid]
        return float(np.min(low, 1).max()), float(np.max(high, 0).min())

    def detectable(self, level: float, bound: float) -> float:
        """The smallest distance from the bound that would be seen with probability `POWER`, by the deciding contrast.

        It is a distance to the side of the bound on which the value lies.
        """
        return self.deciding.detectable(self._tail(level, bound))

    def seeds_needed(self, level: float, bound: float, most: int = 50) -> int | None:
        """How many draws would show the observed distance with probability `POWER`; None if more than `most`."""
        for seeds in range(self.seeds + 1, most + 1):
            more = self.deciding.with_seeds(seeds)
            if more.detectable(self._tail(level, bound)) <= abs(self.value - bound):
                return seeds
        return None

    def _tail(self, level: float, bound: float) -> float:
        """The one-sided level of a single contrast."""
        return level / 2 / (len(self.grid) if self.value >= bound else len(self.grid[0]))


def single(one: Contrast) -> Comparison:
    """One contrast as a comparison."""
    return Comparison(((one,),))
