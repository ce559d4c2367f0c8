"""Both p values of a rank correlation, and the correlation that it would have seen, against plain computations."""

from itertools import permutations, product
from math import atanh, floor, sqrt, tanh

import numpy as np
import pytest
from scipy import stats

from knowshift.analysis.rank_tests import RankCorrelation

FIRST = [np.array([1.0, 5.0, 3.0, 4.0]), np.array([9.0, 8.0, 7.0, 6.5])]
SECOND = [np.array([2.0, 2.0, 5.0, 4.0]), np.array([30.0, 10.0, 20.0, 5.0])]


def every_value(first: list[np.ndarray], second: list[np.ndarray]) -> list[float]:
    """The correlation of ranks under every arrangement, the largest first."""
    left = [stats.rankdata(group) - (len(group) + 1) / 2 for group in first]
    right = [stats.rankdata(group) - (len(group) + 1) / 2 for group in second]
    scale = sqrt(sum((x**2).sum() for x in left) * sum((y**2).sum() for y in right))
    orders = product(*(permutations(group) for group in left))
    values = [sum(np.dot(order, y) for order, y in zip(each, right, strict=True)) / scale for each in orders]
    return sorted(map(float, values), reverse=True)


@pytest.mark.parametrize("sign", [1, -1])
def test_both_p_values_count_arrangements_that_are_as_extreme(sign: int) -> None:
    first = [sign * group for group in FIRST]
    found, values = RankCorrelation(first, SECOND, 3, np.random.default_rng(1)), every_value(first, SECOND)
    assert found.arrangements == len(values) == 576 and found.cells == 8
    above = np.mean([value >= found.value - 1e-9 for value in values])
    below = np.mean([value <= found.value + 1e-9 for value in values])
    assert found.tails(0.0) == pytest.approx((above, below)) and above + below > 1  # the observed one is in both


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_what_would_have_been_seen_follows_from_the_critical_value(level: float) -> None:
    found, values = RankCorrelation(FIRST, SECOND, 3, np.random.default_rng(1)), every_value(FIRST, SECOND)
    critical = values[floor(level / 2 * len(values)) - 1]
    free = 8 - 2 - 2  # cells, groups and two
    expected = tanh(atanh(critical) + stats.norm.ppf(0.8) / sqrt(free)) if critical < 1 - 1e-9 else 1.0
    assert found.detectable(level, 0.0) == pytest.approx(expected) and critical < expected <= 1


def test_where_nothing_would_have_been_seen() -> None:
    draw = np.random.default_rng(1)
    pair = RankCorrelation([np.array([1.0, 2.0, 3.0])], [np.array([1.0, 2.0, 3.0])], 3, draw)
    assert np.isnan(pair.detectable(0.05, 0.0))  # one of six orders is more than 2.5 %
    assert pair.detectable(0.5, 0.0) == 1.0  # only a perfect order is rare enough, and no cell varies freely
    few = RankCorrelation([np.arange(2.0)] * 2, [np.arange(2.0)] * 2, 3, draw)
    assert few.arrangements == 4 and few.detectable(0.9, 0.0) == 1.0  # four cells, of which none varies freely
