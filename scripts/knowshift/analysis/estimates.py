"""Intervals and tests over facts: bootstrap, paired permutation, Holm's correction, rank correlation, calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

REPLICATES = 2000  # of the bootstrap
PERMUTATIONS = 20_000
ENDS = (2.5, 97.5)  # percentiles: 95 % intervals
_CHUNK = 1 << 22  # random numbers at a time; bounds memory


@dataclass(frozen=True)
class Estimate:
    """A number and what it is on resampled facts; differences of estimates of the same facts are paired.

    Attributes:
        value: from the facts as they are; NaN: not known.
        replicates: (B,) from B resamples.
    """

    value: float
    replicates: np.ndarray

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, self.replicates - other.replicates)

    @property
    def low(self) -> float:
        """The lower end of the 95 % percentile interval; NaN if the value is not known."""
        return self._percentile(ENDS[0])

    @property
    def high(self) -> float:
        """The upper end."""
        return self._percentile(ENDS[1])

    def _percentile(self, end: float) -> float:
        if np.isnan(self.value) or np.isnan(self.replicates).all():
            return float("nan")
        return float(np.nanpercentile(self.replicates, end))

    @property
    def reflected(self) -> "Estimate":
        """Replicates mirrored at the value: their percentiles are the ends of the basic interval (Davison and Hinkley 1997).

        It takes out what resampling adds to a largest or a smallest of several values.
        """
        return Estimate(self.value, 2 * self.value - self.replicates)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The plain mean."""
    return Estimate(
        float(np.mean([estimate.value for estimate in estimates])),
        np.mean([estimate.replicates for estimate in estimates], axis=0),
    )


def largest_of(estimates: Sequence[Estimate]) -> Estimate:
    """The largest, chosen anew in every resample."""
    return Estimate(
        float(np.max([estimate.value for estimate in estimates])),
        np.max([estimate.replicates for estimate in estimates], axis=0),
    )


def smallest_of(estimates: Sequence[Estimate]) -> Estimate:
    """The smallest, chosen anew in every resample."""
    return Estimate(
        float(np.min([estimate.value for estimate in estimates])),
        np.min([estimate.replicates for estimate in estimates], axis=0),
    )


def stratum_means(values: np.ndarray, strata: np.ndarray, count: int) -> np.ndarray:
    """Means of columns within strata.

    Args:
        values: (N, C), a row per fact.
        strata: (N,) stratum of each fact, 0 to S-1.
        count: S.

    Returns:
        (S, C); NaN for a stratum without facts.
    """
    means = np.full((count, values.shape[1]), np.nan)
    for stratum in range(count):
        if (rows := values[strata == stratum]).size:
            means[stratum] = rows.mean(0, dtype=np.float64)
    return means


def bootstrap_means(
    values: np.ndarray, strata: np.ndarray, count: int, rng: np.random.Generator, replicates: int = REPLICATES
) -> np.ndarray:
    """`stratum_means` of facts drawn anew with replacement, as many from each stratum as it has.

    A fact is drawn with its whole row, so columns stay paired.

    Returns:
        (B, S, C).
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
    """Two-sided paired permutation test of a weighted sum of differences.

    Under the hypothesis that it does not matter which of two models answered, a fact's difference is as likely to have the
    other sign. With equal weights and differences of one size this is McNemar's test.

    Args:
        differences: (N,) per fact, one model less the other (mean over seeds).
        weights: (N,) of the facts in the sum.

    Returns:
        The share of random signs with a sum at least as far from 0, the observed one counted among them.
    """
    terms = differences * weights
    terms = terms[terms != 0]
    if not len(terms):
        return 1.0
    observed = abs(terms.sum())
    sizes, counts = np.unique(np.abs(terms).round(15), return_counts=True)
    sums = (2 * rng.binomial(counts, 0.5, (permutations, len(counts))) - counts) @ sizes
    extreme = np.count_nonzero(np.abs(sums) >= observed - 1e-9 * sizes.max())
    return (1 + extreme) / (1 + permutations)


def holm(p: np.ndarray) -> np.ndarray:
    """p values corrected for their number (Holm 1979): the chance of any false rejection in the family is bounded.

    Args:
        p: (K,) p values; NaN are not in the family and stay NaN.
    """
    corrected = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation over the last axis, equal values sharing their mean rank; NaN where one side is constant.

    Args:
        x, y: (…, K).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = _centred_ranks(x), _centred_ranks(y)
        return (first * second).sum(-1) / np.sqrt((first**2).sum(-1) * (second**2).sum(-1))


def spearman_estimate(x: np.ndarray, y: np.ndarray) -> Estimate:
    """The rank correlation of K points with its interval over points, by Fisher's z (Bonett and Wright 2000).

    Its replicates are quantiles of z's normal distribution. A correlation beyond 0.99 counts as 0.99 in the interval, which
    would have no width otherwise.

    Args:
        x, y: (K,) with K of at least 4.
    """
    value = float(spearman(x, y))
    rank = np.clip(value, -0.99, 0.99)
    error = np.sqrt((1 + rank**2 / 2) / (len(x) - 3))
    normal = NormalDist(np.arctanh(rank), error) if not np.isnan(rank) else None
    shares = (np.arange(REPLICATES) + 0.5) / REPLICATES
    drawn = [normal.inv_cdf(share) if normal else np.nan for share in shares]
    return Estimate(value, np.tanh(drawn))


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    less = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    ranks = less + (equal + 1) / 2
    return ranks - (values.shape[-1] + 1) / 2


def calibration_bins(probability: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each probability, of equal width, the last one closed: 0 to bins-1."""
    return np.minimum((probability * bins).astype(np.int64), bins - 1)


def calibration_error(probability: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Expected calibration error: over equal bins, the mean distance of probability and share correct, by questions.

    Args:
        probability: (N,) between 0 and 1.
        correct: (N,) whether it came true.
    """
    place = calibration_bins(probability, bins)
    gaps = np.bincount(place, probability, bins) - np.bincount(place, correct, bins)
    return float(np.abs(gaps).sum() / len(probability))
