"""Intervals and tests against plain implementations, hand-worked values and simulated truth."""

import gc
from collections.abc import Iterator
from math import comb

import numpy as np
import pytest

from knowshift.analysis.estimates import (
    Estimate,
    bootstrap_means,
    calibration_error,
    holm,
    mean_of,
    permutation_p,
    spearman,
    spearman_estimate,
    stratum_means,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mcnemar(gained: int, lost: int) -> float:
    """The exact test, from its definition: twice a tail of the binomial distribution, at most 1."""
    apart = gained + lost
    tail = sum(comb(apart, k) for k in range(min(gained, lost) + 1)) / 2**apart
    return min(1.0, 2 * tail)


@pytest.mark.parametrize(("gained", "lost"), [(10, 2), (7, 5), (15, 3), (1, 0), (6, 6)])
def test_the_permutation_test_is_mcnemars_where_weights_are_equal(gained: int, lost: int) -> None:
    differences = np.array([1] * gained + [-1] * lost + [0] * 50)
    p = permutation_p(differences, np.full(len(differences), 0.01), rng(), 200_000)
    assert p == pytest.approx(mcnemar(gained, lost), abs=0.004)


def test_the_permutation_test_agrees_with_every_sign_tried_out() -> None:
    differences = np.array([1, 1, -0.5, 1, 0.5, -1, 1, 1, 0])
    weights = np.array([0.1, 0.1, 0.2, 0.05, 0.2, 0.05, 0.2, 0.1, 0.3])
    terms = differences * weights
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(terms))).reshape(len(terms), -1)
    exact = np.mean(np.abs(terms @ signs) >= abs(terms.sum()) - 1e-12)
    assert permutation_p(differences, weights, rng(), 100_000) == pytest.approx(exact, abs=0.01)


def test_nothing_changed_is_no_difference_and_no_p_value_is_zero() -> None:
    assert permutation_p(np.zeros(5), np.ones(5), rng()) == 1.0
    assert permutation_p(np.ones(200), np.ones(200), rng(), 999) == 1 / 1000


def test_holm_by_hand() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.5])
    assert holm(p)[[0, 2, 3, 4]] == pytest.approx([0.04, 0.09, 0.09, 0.5])  # 4 x .01; 3 x .03; max(.09, 2 x .04); .5
    assert np.isnan(holm(p)[1])


@pytest.fixture
def little_garbage() -> Iterator[None]:
    """Hide what is in memory from the garbage collector, which statsmodels starts in every call."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("little_garbage")
def test_holm_bounds_the_chance_of_any_false_alarm() -> None:
    draw, alarms = rng(3), 0
    for _ in range(300):
        p = [permutation_p(draw.choice([-1, 0, 1], 60), np.ones(60), draw, 999) for _ in range(8)]
        alarms += holm(np.array(p)).min() < 0.05
    assert alarms / 300 < 0.08


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say() -> None:
    draw, inside = rng(1), 0
    truth = np.array([0.1, 0.3, 0.5, 0.6, 0.9])
    strata = np.repeat(np.arange(5), 60)
    for _ in range(300):
        right = (draw.random(300) < truth[strata])[:, None]
        replicates = bootstrap_means(right, strata, 5, draw, 400).mean(1)[:, 0]
        estimate = Estimate(stratum_means(right, strata, 5).mean(), replicates)
        inside += estimate.low <= truth.mean() <= estimate.high
    assert 0.91 <= inside / 300 <= 0.98


def test_the_bootstrap_has_the_spread_that_theory_gives() -> None:
    strata = np.array([0] * 100 + [1] * 25)
    values = np.concatenate([np.arange(100) < 20, np.arange(25) < 10])[:, None]
    spread = bootstrap_means(values, strata, 2, rng(), 20_000)[:, :, 0].std(0)
    assert spread == pytest.approx([np.sqrt(0.2 * 0.8 / 100), np.sqrt(0.4 * 0.6 / 25)], rel=0.03)


def test_columns_of_the_bootstrap_stay_paired() -> None:
    values = np.stack([rng().random(50) < 0.5] * 2, axis=1)
    replicates = bootstrap_means(values, np.zeros(50, int), 1, rng())
    assert (replicates[:, 0, 0] == replicates[:, 0, 1]).all() and replicates[:, 0, 0].std() > 0


def test_a_level_without_facts_is_not_known() -> None:
    strata, values = np.array([0, 0, 2]), np.array([[1], [0], [1]])
    assert np.isnan(stratum_means(values, strata, 3)[1, 0])
    replicates = bootstrap_means(values, strata, 3, rng())
    estimate = Estimate(float(stratum_means(values, strata, 3).mean()), replicates[:, :, 0].mean(1))
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()


def test_estimates_are_compared_in_every_resample() -> None:
    one, other = Estimate(1.0, np.array([1.0, 3.0])), Estimate(2.0, np.array([2.0, 1.0]))
    assert (one - other).replicates.tolist() == [-1.0, 2.0] and (one - other).value == -1.0
    assert mean_of([one, other]).value == 1.5


def test_spearman_with_ties_is_pearson_of_mean_ranks() -> None:
    x, y = np.array([1.0, 2.0, 2.0, 3.0, 5.0]), np.array([9.0, 7.0, 8.0, 8.0, 1.0])
    ranks = np.array([1, 2.5, 2.5, 4, 5]), np.array([5, 2, 3.5, 3.5, 1])
    assert spearman(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert np.isnan(spearman(x, np.ones(5)))
    assert spearman(np.stack([x, -x]), np.stack([y, y])).shape == (2,)


def test_the_interval_of_a_rank_correlation_is_fishers() -> None:
    x, y = np.arange(10.0), np.array([2.0, 1, 4, 3, 7, 5, 6, 9, 8, 0])
    estimate = spearman_estimate(x, y)
    z, error = np.arctanh(estimate.value), np.sqrt((1 + estimate.value**2 / 2) / 7)
    assert [estimate.low, estimate.high] == pytest.approx(np.tanh([z - 1.96 * error, z + 1.96 * error]), abs=0.01)
    assert spearman_estimate(x, x).value == 1 and 0.5 < spearman_estimate(x, x).low < 1
    assert np.isnan(spearman_estimate(x, np.ones(10)).low)


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.05, 0.05, 0.95, 1.0])
    correct = np.array([False, True, True, True])
    # bin 0: |0.05 - 0.5| over 2 of 4; bin 9: |0.975 - 1| over 2 of 4
    assert calibration_error(probability, correct, 10) == pytest.approx(0.5 * 0.45 + 0.5 * 0.025)
