"""A test of whether two numbers rise together within groups of cells: a rank correlation, permuted within groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product
from math import factorial, prod

import numpy as np

from knowshift.analysis.contrasts import FEWEST_SEEDS, POWER
from knowshift.analysis.estimates import PERMUTATIONS


@dataclass(frozen=True, eq=False)
class RankCorrelation:
    """The rank correlation of two numbers within groups, tested by permuting one of them within each group.

    Ranks are taken within each group, so what sets groups apart does not count. If the first number has nothing to do
    with the second, its values are as likely to stand in any order within a group.

    Attributes:
        first: For each group (K,) the first number of its cells.
        second: For each group (K,) the second number.
        seeds: The smallest number of draws of the training set behind a cell.
        rng: For random permutations, where there are too many to try them all.
    """

    first: Sequence[np.ndarray]
    second: Sequence[np.ndarray]
    seeds: int
    rng: np.random.Generator

    standard_error = None
    df = None

    @cached_property
    def _ranks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The centred mean ranks of both numbers, for each group with at least two cells."""
        from scipy.stats import rankdata  # slow to import

        pairs = zip(self.first, self.second, strict=True)
        return [(rankdata(x) - (len(x) + 1) / 2, rankdata(y) - (len(y) + 1) / 2) for x, y in pairs if len(x) > 1]

    @property
    def cells(self) -> int:
        """The number of cells in groups of at least two."""
        return sum(len(x) for x, _ in self._ranks)

    @property
    def arrangements(self) -> int:
        """The number of ways to arrange the first number within the groups."""
        return prod(factorial(len(x)) for x, _ in self._ranks)

    @cached_property
    def _scale(self) -> float:
        return float(np.sqrt(sum((x**2).sum() for x, _ in self._ranks) * sum((y**2).sum() for _, y in self._ranks)))

    @property
    def value(self) -> float:
        """The correlation, -1 to 1; NaN if one number does not vary within the groups."""
        if not self._scale:
            return float("nan")
        return float(sum(x @ y for x, y in self._ranks) / self._scale)

    @property
    def is_testable(self) -> bool:
        """Whether there are enough draws, and some order of the cells is rarer than 5 %, two-sided."""
        return self.seeds >= FEWEST_SEEDS and not np.isnan(self.value) and 2 / self.arrangements < 0.05

    @cached_property
    def permuted(self) -> np.ndarray:
        """(P,) the correlation under every arrangement or, where there are too many, under random ones."""
        if self.arrangements <= PERMUTATIONS:
            each = [np.array([np.array(order) @ y for order in permutations(x)]) for x, y in self._ranks]
            return np.array([sum(sums) for sums in product(*each)]) / self._scale
        sums = np.zeros(PERMUTATIONS)
        for x, y in self._ranks:
            sums += self.rng.permuted(np.tile(x, (PERMUTATIONS, 1)), axis=1) @ y
        return np.append(sums, self.value * self._scale) / self._scale  # the observed order is one of them

    def tails(self, bound: float) -> tuple[float, float]:
        """The p values of "not above 0" and of "not below 0"; another bound cannot be tested.

        Raises:
            ValueError: The bound is not 0.
        """
        if bound:
            raise ValueError("a permutation test knows no bound but 0")
        above = np.mean(self.permuted >= self.value - 1e-9)
        below = np.mean(self.permuted <= self.value + 1e-9)
        return float(above), float(below)

    def interval(self, level: float) -> None:
        """There is none: the test knows no other hypothesis than "no correlation"."""
        return

    def detectable(self, level: float, bound: float) -> float:
        """The smallest true correlation that would have been seen with probability `POWER`; NaN if none would.

        The test's critical value is a quantile of the permuted correlations. The spread around a true correlation is
        that of Fisher's z with Bonett and Wright's (2000) variance at 0, for as many cells as vary freely.
        """
        from scipy.special import ndtri  # slow to import

        values = np.sort(self.permuted)[::-1]
        allowed = int(np.floor(level / 2 * len(values)))  # of the values, that may lie at or above the critical one
        if not allowed:
            return float("nan")
        critical, free = values[allowed - 1], self.cells - len(self._ranks) - 2
        if critical >= 1 - 1e-9 or free < 1:
            return 1.0
        return float(np.tanh(np.arctanh(critical) + ndtri(POWER) / np.sqrt(free)))

    def seeds_needed(self, level: float, bound: float) -> None:
        """Seeds are not what is counted here; cells are."""
        return
