"""The crossed variance of contrasts against plain implementations, and comparisons of several contrasts by hand."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from knowshift.analysis.contrasts import Arm, Comparison, Contrast, contrast, crossed, single
from knowshift.analysis.rank_tests import RankCorrelation
from knowshift.analysis.verdicts import FAILS, HOLDS, LEVEL, OPEN, Part, correct


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def known_contrast(value: float, error: float = 0.01, seeds: int = 3, df: float = 4.0) -> Contrast:
    """A contrast whose variance over draws and over facts is the same."""
    return Contrast(value, seeds, 200, error**2 / 2, df, error**2 / 2, 200.0, 0.0)


def test_the_variance_is_that_of_a_two_way_layout_by_hand() -> None:
    strata = np.array([0] * 4 + [1] * 3)
    block = rng().normal(size=(7, 3))
    found = crossed([block], strata, 2)
    parts = [block[strata == stratum] for stratum in (0, 1)]
    assert found.value == pytest.approx(np.mean([part.mean() for part in parts]))
    draws = np.mean([part.mean(0) for part in parts], axis=0)
    assert found.seed_variance == pytest.approx(draws.var(ddof=1) / 3)
    rest = [part - part.mean(0) - part.mean(1, keepdims=True) + part.mean() for part in parts]
    inner = [(left**2).sum() / ((len(left) - 1) * 2) / (3 * len(left)) / 4 for left in rest]
    over_facts = [part.mean(1).var(ddof=1) / len(part) / 4 for part in parts]
    assert found.interaction == pytest.approx(sum(inner))
    assert found.fact_variance == pytest.approx(max(sum(over_facts) - sum(inner), 0))
    assert (found.seeds, found.facts, found.seed_df) == (3, 7, 2)


def test_without_facts_in_common_it_is_welchs_test() -> None:
    """With one fact per stratum there is nothing over facts, and two kinds are two independent samples of draws."""
    one, other = rng(1).normal(size=(1, 3)), rng(2).normal(size=(1, 5))
    found = crossed([one, -other], np.zeros(1, int), 1)
    welch = stats.ttest_ind(one[0], other[0], equal_var=False)
    above, below = found.tails(0.0)
    assert 2 * min(above, below) == pytest.approx(welch.pvalue) and found.seed_df == pytest.approx(welch.df)


def test_the_components_are_estimated_without_bias() -> None:
    draw, strata = rng(3), np.zeros(30, int)
    facts, draws, both = 0.5, 0.1, 0.8
    found = []
    for _ in range(2000):
        block = draw.normal(0, facts, (30, 1)) + draw.normal(0, draws, (1, 4)) + draw.normal(0, both, (30, 4))
        found.append(crossed([block], strata, 1))
    total = facts**2 / 30 + draws**2 / 4 + both**2 / 120
    assert np.mean([one.variance for one in found]) == pytest.approx(total, rel=0.05)
    assert np.mean([one.interaction for one in found]) == pytest.approx(both**2 / 120, rel=0.03)
    assert np.var([one.value for one in found]) == pytest.approx(total, rel=0.08)


def test_arms_of_one_kind_are_paired_by_seed_and_kinds_are_not() -> None:
    values = rng(4).random((50, 6)) < 0.5
    columns = {name: at for at, name in enumerate("abcdef")}
    strata = np.zeros(50, int)
    paired = contrast(values, columns, strata, 1, [Arm(1, "x", {1: "a", 2: "b", 9: "e"}),
                                                   Arm(-1, "x", {2: "d", 1: "c", 7: "f"})])  # fmt: skip
    apart = values.astype(float)
    assert paired == crossed([apart[:, [0, 1]] - apart[:, [2, 3]]], strata, 1) and paired.seeds == 2
    unpaired = contrast(values, columns, strata, 1, [Arm(1, "x", {1: "a", 2: "b"}), Arm(-1, "y", {1: "c", 2: "d"})])
    assert unpaired.value == pytest.approx(paired.value)
    assert unpaired == crossed([apart[:, [0, 1]], -apart[:, [2, 3]]], strata, 1)


def test_the_critical_value_lies_between_those_of_its_parts() -> None:
    one = known_contrast(0.0)
    assert stats.t.isf(0.025, 200) < one.critical(0.025) < stats.t.isf(0.025, 4)
    assert one.critical(0.025) == pytest.approx((stats.t.isf(0.025, 200) + stats.t.isf(0.025, 4)) / 2)
    exact = Contrast(0.03, 3, 200, 0.0, 4.0, 1e-4, 200.0, 0.0)
    assert exact.tails(0.0)[0] == pytest.approx(stats.t.sf(3.0, 200)) and sum(exact.tails(0.01)) == pytest.approx(1)


def test_what_would_have_been_seen_is_seen_in_four_of_five() -> None:
    draw, strata, level = rng(5), np.zeros(60, int), 0.005
    facts, draws, both = 0.3, 0.05, 0.3

    def block(shift: float) -> np.ndarray:
        shape = (60, 5)
        return shift + draw.normal(0, facts, (60, 1)) + draw.normal(0, draws, (1, 5)) + draw.normal(0, both, shape)

    expected = Contrast(0.0, 5, 60, draws**2 / 5 + both**2 / 300, 4.0, facts**2 / 60, 59.0, both**2 / 300)
    shift = expected.detectable(level / 2)
    seen = [crossed([block(shift)], strata, 1).tails(0.0)[0] <= level / 2 for _ in range(1500)]
    assert 0.75 <= np.mean(seen) <= 0.90  # Cochran's critical value is on the safe side


@pytest.mark.parametrize("level", [0.05, 0.004])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (6, 1), (3, 2)])
def test_the_interval_excludes_a_bound_just_where_the_p_value_is_small(rows: int, columns: int, level: float) -> None:
    draw, told = rng(6), set()
    for _ in range(300):
        first, second = draw.normal(0, 0.03, rows), draw.normal(0, 0.03, columns)
        found = Comparison(tuple(tuple(known_contrast(a - b) for b in second) for a in first))
        low, high = found.interval(level)
        above, below = found.tails(0.01)
        assert (low > 0.01) == (2 * above < level) and (high < 0.01) == (2 * below < level)
        assert low <= found.value <= high and found.value == pytest.approx(first.max() - second.max())
        told.add((low > 0.01) - (high < 0.01))
    assert told == {-1, 0, 1}


def test_best_of_several_is_corrected_and_all_of_several_is_not() -> None:
    one, other = known_contrast(0.03), known_contrast(0.05)
    above = [contrast.tails(0.0)[0] for contrast in (one, other)]
    assert Comparison(((one, other),)).tails(0.0)[0] == pytest.approx(max(above))  # above in all columns
    assert Comparison(((one,), (other,))).tails(0.0)[0] == pytest.approx(2 * min(above))  # above in some row


def test_what_does_not_vary_tells_nothing() -> None:
    flat = crossed([np.ones((6, 3))], np.repeat([0, 1], 3), 2)
    assert flat.variance == 0 and flat.tails(0.0) == (1, 1) and not single(flat).is_testable
    assert np.isnan(crossed([np.ones((6, 3))], np.repeat([0, 2], 3), 3).value)  # an empty stratum
    assert not single(known_contrast(0.5, seeds=2)).is_testable


def test_holms_levels_agree_with_corrected_p_values() -> None:
    values = [0.06, 0.045, 0.02, -0.05, 0.0]
    parts = [Part(1, letter, "", "", evidence=single(known_contrast(value)))
             for letter, value in zip("abcde", values, strict=True)]  # fmt: skip
    parts.append(Part(1, "f", "", "", evidence=single(known_contrast(0.5, seeds=2))))
    found = correct(parts)
    assert {part.verdict for part in found} == {HOLDS, FAILS, OPEN} and found[-1].p is None
    for part in found[:-1]:
        assert part.interval is not None and part.p_corrected is not None
        low, high = part.interval
        assert (part.p_corrected <= LEVEL) == (low > 0 or high < 0) == (part.verdict != OPEN)
    smallest = min(found[:-1], key=lambda part: part.p or 1)
    assert smallest.level == pytest.approx(LEVEL / 5)  # two seeds are no member of the family


def test_a_verdict_that_is_open_says_what_is_missing() -> None:
    few, small, far = correct(
        [
            Part(1, "a", "", "", evidence=single(known_contrast(0.5, seeds=2))),
            Part(1, "b", "", "", evidence=single(known_contrast(0.025))),
            Part(1, "c", "", "", evidence=single(known_contrast(0.001))),
        ]
    )
    assert few.needed == "It needs at least 3 seeds, and there are 2."
    assert small.needed is not None and small.needed.startswith("It lies 2.5 points from the bound, and ")
    assert "would have been seen with 80 % probability: it needs a larger effect, or about " in small.needed
    assert far.needed is not None and far.needed.endswith("or more seeds and more questions.")


def test_a_rank_correlation_within_groups_by_every_order() -> None:
    first = [np.array([1.0, 5.0, 3.0, 4.0]), np.array([9.0, 8.0, 7.0])]
    second = [np.array([2.0, 8.0, 5.0, 4.0]), np.array([30.0, 10.0, 20.0])]
    found = RankCorrelation(first, second, 3, rng())
    ranks = (
        [stats.rankdata(group) - (len(group) + 1) / 2 for group in first],
        [stats.rankdata(group) - (len(group) + 1) / 2 for group in second],
    )
    sums = [sum(a @ b for a, b in zip(ranks[0], ranks[1], strict=True))]
    every = [
        a @ ranks[1][0] + b @ ranks[1][1] for a, b in product(permutations(ranks[0][0]), permutations(ranks[0][1]))
    ]
    assert found.arrangements == len(every) == 144
    assert found.tails(0.0)[0] == pytest.approx(np.mean(np.array(every) >= sums[0] - 1e-9))
    assert not RankCorrelation(first[1:], second[1:], 3, rng()).is_testable  # six orders
    assert found.is_testable and not RankCorrelation(first, second, 2, rng()).is_testable  # two seeds
    with pytest.raises(ValueError, match="no bound but 0"):
        found.tails(0.1)


def test_what_sets_groups_apart_is_no_correlation() -> None:
    draw, alarms = rng(7), 0
    for _ in range(200):
        first = [group + draw.normal(size=4) for group in (0, 10, 20)]
        second = [group + draw.normal(size=4) for group in (0, 10, 20)]
        alarms += 2 * min(RankCorrelation(first, second, 3, draw).tails(0.0)) <= 0.05
    assert alarms / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    rising = [np.arange(6.0)] * 3
    found = RankCorrelation(rising, rising, 3, draw)
    assert found.value == 1 and found.tails(0.0)[0] < 0.001 and 0 < found.detectable(0.05, 0.0) < 1
