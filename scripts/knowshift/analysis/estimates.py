"""Statistics over facts: bootstrap intervals, permutation tests, Holm's correction, rank correlation, calibration.

The functions know arrays alone; `docs/method.md` says where each is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

REPLICATES = 2000  # resamples of the bootstrap
PERMUTATIONS = 20_000  # random permutations of a test, at least
PER_TEST = 1000  # permutations per test of a family, so that correction leaves p values their resolution
ENDS = (2.5, 97.5)  # percentiles of the replicates at the ends of a 95 % interval
_CHUNK = 1 << 22  # random numbers drawn at a time, which bounds memory


@dataclass(frozen=True)
class Estimate:
    """A number with its values on resampled facts.

    The difference of two estimates is taken resample by resample, so estimates of the same facts are compared in pairs.

    Attributes:
        value: The number computed from all facts; NaN if it is not known.
        replicates: (B,) the same number computed from each of B resamples.
    """

    value: float
    replicates: np.ndarray

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Subtract another estimate of the same facts, resample by resample."""
        return Estimate(self.value - other.value, self.replicates - other.replicates)

    @property
    def low(self) -> float:
        """The lower end of the 95 % percentile interval; NaN if the value is not known."""
        return self._percentile(ENDS[0])

    @property
    def high(self) -> float:
        """The upper end of the 95 % percentile interval; NaN if the value is not known."""
        return self._percentile(ENDS[1])

    def _percentile(self, end: float) -> float:
        if np.isnan(self.value) or np.isnan(self.replicates).all():
            return float("nan")
        return float(np.nanpercentile(self.replicates, end))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The unweighted mean of several estimates."""
    return Estimate(
        float(np.mean([estimate.value for estimate in estimates])),
        np.mean([estimate.replicates for estimate in estimates], axis=0),
    )


def stratum_means(values: np.ndarray, strata: np.ndarray, count: int) -> np.ndarray:
    """Average each column within each stratum.

    Args:
        values: (N, C) one row per fact.
        strata: (N,) the stratum of each fact, 0 to S-1.
        count: The number of strata, S.

    Returns:
        (S, C) means; NaN for a stratum without facts.
    """
    means = np.full((count, values.shape[1]), np.nan)
    for stratum in range(count):
        if (rows := values[strata == stratum]).size:
            means[stratum] = rows.mean(0, dtype=np.float64)
    return means


def bootstrap_means(
    values: np.ndarray, strata: np.ndarray, count: int, rng: np.random.Generator, replicates: int = REPLICATES
) -> np.ndarray:
    """Compute `stratum_means` on resamples, which draw as many facts from each stratum as it has, with replacement.

    A fact is drawn with its whole row, so columns stay paired. `scipy.stats.bootstrap` knows no strata; here hundreds
    of models share each resample, as one matrix product per stratum.

    Returns:
        (B, S, C) means of each of B resamples; NaN for a stratum without facts.
    """
    means = np.full((replicates, count, values.shape[1]), np.nan)
    for stratum in range(count):
        rows = values[strata == stratum].astype(np.float32)
        size = len(rows)
        if not rows.size:
            continue
        step = max(1, _CHUNK // size)
        for start in range(0, replicates, step):
            here = min(step, replicates - start)
            drawn = rng.integers(0, size, (here, size)) + np.arange(here)[:, None] * size
            times = np.bincount(drawn.ravel(), minlength=here * size).reshape(here, size).astype(np.float32)
            means[start : start + here, stratum] = times @ rows / size
    return means


def permutation_p(
    differences: np.ndarray, weights: np.ndarray, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> float:
    """Test, two-sided and paired, whether a weighted sum of differences is zero.

    If it does not matter which of two models answered, each fact's difference is as likely to have the opposite sign.
    With equal weights and differences of one size this is McNemar's test. `scipy.stats.permutation_test` would draw a
    sign per fact and permutation; facts with equal terms are drawn together here, from one binomial distribution.

    Args:
        differences: (N,) one model minus the other for each fact (mean over seeds).
        weights: (N,) the weight of each fact in the sum.
        rng: Of the permutations.
        permutations: Their number.

    Returns:
        The p value: the share of sign patterns whose sum is at least as far from 0, the observed one included.
    """
    terms = differences * weights
    terms = terms[terms != 0]
    if not len(terms):
        return 1.0
    observed = abs(terms.sum())
    sizes, counts = np.unique(np.abs(terms).round(15), return_counts=True)
    extreme, step = 0, max(1, _CHUNK // len(counts))
    for start in range(0, permutations, step):
        here = min(step, permutations - start)
        sums = (2 * rng.binomial(counts, 0.5, (here, len(counts))) - counts) @ sizes
        extreme += np.count_nonzero(np.abs(sums) >= observed - 1e-9 * sizes.max())
    return (1 + extreme) / (1 + permutations)


def permutations_for(tests: int) -> int:
    """How many permutations each test of a family needs, so that the smallest p value survives the correction.

    Args:
        tests: The number of tests in the family.
    """
    return max(PERMUTATIONS, PER_TEST * tests)


def holm(p: np.ndarray) -> np.ndarray:
    """Correct a family of p values by Holm's method (1979), which bounds the chance of any false rejection.

    Args:
        p: (K,) p values; NaN do not count as members of the family and stay NaN.
    """
    from statsmodels.stats.multitest import multipletests  # slow to import (scipy.stats)

    corrected = np.full(len(p), np.nan)
    known = ~np.isnan(p)
    if known.any():
        corrected[known] = multipletests(p[known], method="holm")[1]
    return corrected


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation over the last axis; equal values share their mean rank, and NaN means that one side is constant.

    Centred mean ranks are multiples of a half, so the sums below are exact and a perfect correlation is exactly 1;
    `scipy.stats.spearmanr` rounds in between, and takes no stacks of samples.

    Args:
        x: (…, K) the first variable.
        y: (…, K) the second variable.
    """
    from scipy.stats import rankdata  # slow to import

    first, second = (rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2 for values in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (first * second).sum(-1) / np.sqrt((first**2).sum(-1) * (second**2).sum(-1))


def spearman_estimate(x: np.ndarray, y: np.ndarray) -> Estimate:
    """The rank correlation of K points with an interval over points by Fisher's z (Bonett and Wright 2000).

    The replicates are evenly spaced quantiles of the normal distribution of z. For the interval, a correlation beyond
    ±0.99 counts as ±0.99, because the interval would have no width otherwise.

    Args:
        x: (K,) the first variable, with K of at least 4.
        y: (K,) the second variable.
    """
    value = float(spearman(x, y))
    rank = np.clip(value, -0.99, 0.99)
    error = np.sqrt((1 + rank**2 / 2) / (len(x) - 3))
    normal = NormalDist(np.arctanh(rank), error) if not np.isnan(rank) else None
    shares = (np.arange(REPLICATES) + 0.5) / REPLICATES
    drawn = [normal.inv_cdf(share) if normal else np.nan for share in shares]
    return Estimate(value, np.tanh(drawn))


def calibration_bins(probability: np.ndarray, bins: int) -> np.ndarray:
    """The index, 0 to bins-1, of each probability's bin; bins have equal width, and the last one includes 1."""
    return np.minimum((probability * bins).astype(np.int64), bins - 1)


def calibration_error(probability: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Expected calibration error over bins of equal width.

    It is the distance between mean probability and share correct in each bin, averaged with the bins' questions as
    weights.

    Args:
        probability: (N,) predicted probabilities, 0 to 1.
        correct: (N,) whether each prediction came true.
        bins: The number of bins.
    """
    index = calibration_bins(probability, bins)
    gaps = np.bincount(index, probability, bins) - np.bincount(index, correct, bins)
    return float(np.abs(gaps).sum() / len(probability))
