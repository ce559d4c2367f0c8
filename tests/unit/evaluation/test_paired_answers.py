"""Kept, lost and learned: counts, and intervals that hold what they promise."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowshift.evaluation.paired_answers import Fate, fate_of, proportion


@settings(deadline=None)  # the first example imports statsmodels
@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_every_fact_has_one_fate(pairs: list[tuple[bool, bool]]) -> None:
    fate = fate_of(pairs)
    before, after = np.array(pairs, bool).reshape(-1, 2).T
    assert fate.facts == len(pairs)
    assert (fate.kept + fate.lost, fate.kept + fate.learned) == (before.sum(), after.sum())
    assert fate.lost == (before & ~after).sum() and fate.learned == (~before & after).sum()
    value, low, high = fate.change
    if pairs:
        assert value == pytest.approx(after.mean() - before.mean())
        assert -1 <= low <= value <= high <= 1
    else:
        assert math.isnan(value) and math.isnan(fate.before.low)
    assert 0 <= fate.p_value <= 1
    json.dumps(fate.as_dict(), allow_nan=False)


@settings(deadline=None)
@given(*[st.integers(0, 60)] * 4)
def test_exchanging_the_models_turns_the_change_round(kept: int, lost: int, learned: int, unknown: int) -> None:
    value, low, high = Fate(kept, lost, learned, unknown).change
    turned = Fate(kept, learned, lost, unknown).change
    if kept + lost + learned + unknown:
        assert turned == pytest.approx((-value, -high, -low), abs=1e-12)


def test_wilson_interval_by_its_formula() -> None:
    share, z = proportion(7, 20), 1.959963984540054
    centre = (7 + z * z / 2) / (20 + z * z)
    half = z / (20 + z * z) * math.sqrt(7 * 13 / 20 + z * z / 4)
    assert (share.low, share.high) == pytest.approx((centre - half, centre + half))
    assert math.isnan(proportion(0, 0).value)


def test_nothing_that_changed_is_no_proof_that_nothing_changes() -> None:
    value, low, high = Fate(20, 0, 0, 20).change
    assert value == 0 and low < 0 < high


@pytest.mark.parametrize("shares", [(0.3, 0.1, 0.1, 0.5), (0.25, 0.15, 0.02, 0.58), (0.05, 0.02, 0.2, 0.73)])
@pytest.mark.parametrize("facts", [40, 400])
def test_intervals_of_the_change_cover_the_truth_as_often_as_they_say(shares: tuple[float, ...], facts: int) -> None:
    truth = shares[2] - shares[1]
    draws = np.random.default_rng(1).multinomial(facts, shares, 2000)
    intervals = [Fate(*(int(count) for count in draw)).change for draw in draws]
    covered = np.mean([low <= truth <= high for _, low, high in intervals])
    assert 0.93 <= covered <= 0.99  # four standard errors of 2,000 draws are 2 points


def test_the_p_value_is_that_of_a_fair_coin() -> None:
    assert Fate(5, 8, 0, 5).p_value == pytest.approx(2 / 2**8)
    assert Fate(5, 0, 0, 5).p_value == 1
