"""Means over facts and seeds at once, with a standard error for other facts and other training sets.

Facts and seeds are crossed: every seed's model answers every question. A standard error over facts alone would say
nothing of another draw of the training set; one over all answers would take a fact's answers for independent ones.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

COVERAGE = 0.95  # of the interval


@dataclass(frozen=True)
class CrossedMean:
    """A mean with its standard error.

    Attributes:
        value: The mean; NaN if it is not known.
        error: Its standard error.
        freedom: The degrees of freedom of the error, by Satterthwaite's approximation; infinite if the error is 0.
    """

    value: float
    error: float
    freedom: float

    @cached_property
    def _half(self) -> float:
        """Half the width of the interval, by Student's t."""
        from scipy.stats import t  # slow to import

        return float(t.ppf((1 + COVERAGE) / 2, self.freedom) * self.error) if self.error else 0.0

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval."""
        return self.value - self._half

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self.value + self._half


def crossed_mean(values: np.ndarray, strata: np.ndarray) -> CrossedMean:
    """Average over strata, over the facts of each stratum, and over seeds.

    The variance is the sum of two parts: that of the facts' means over seeds within strata, and that of the seeds'
    means. What chance in single answers adds to the second is subtracted from it, because the first holds it already
    (two-way random effects; Owen 2007 calls the resampling version of it the pigeonhole bootstrap). With one seed only
    the first part can be known. A stratum of one fact takes the variance of all facts.

    Args:
        values: (N, S) one row per fact and one column per seed: grades, or differences of two models' grades.
        strata: (N,) the stratum of each fact; strata weigh equally.
    """
    facts, seeds = values.shape
    present, index, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    weights = 1 / (len(present) * sizes[index])  # (N,) of each fact in the mean
    means = np.zeros((len(present), seeds))
    np.add.at(means, index, values / sizes[index][:, None])  # (strata, S)
    by_fact, by_seed = values.mean(1), means.mean(0)
    within = _variances(by_fact, means.mean(1), index, sizes)
    of_facts = float((within / sizes).sum() / len(present) ** 2)
    of_seeds = of_answers = 0.0
    if seeds > 1:
        of_seeds = float(by_seed.var(ddof=1)) / seeds
        rest = values - by_fact[:, None] - means[index] + means.mean(1)[index][:, None]
        scale = np.where(sizes > 1, sizes / np.maximum(sizes - 1, 1), 1)[index]
        of_answers = float((weights**2 * scale * (rest**2).sum(1)).sum() / (seeds - 1) / seeds)
    variance = of_facts + max(of_seeds - of_answers, 0.0)
    if variance <= 0:
        return CrossedMean(float(by_seed.mean()), 0.0, float("inf"))
    noise = of_facts**2 / max(facts - len(present), 1)
    if of_seeds > of_answers:
        noise += of_seeds**2 / (seeds - 1)
    return CrossedMean(float(by_seed.mean()), variance**0.5, variance**2 / noise if noise else float("inf"))


def _variances(values: np.ndarray, means: np.ndarray, index: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The variance of values within each stratum; that of all values for a stratum of one."""
    squares = np.bincount(index, (values - means[index]) ** 2, len(sizes))
    over_all = float(values.var(ddof=1)) if len(values) > 1 else 0.0
    return np.where(sizes > 1, squares / np.maximum(sizes - 1, 1), over_all)
