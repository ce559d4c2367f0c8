"""The crossed variance of several data kinds, and what follows from it, against plain loops."""

from dataclasses import astuple

import numpy as np
import pytest

from knowshift.analysis.contrasts import Comparison, Contrast, crossed, single


def plainly(blocks: list[np.ndarray], strata: np.ndarray, count: int) -> Contrast:
    """The definition of docs/method.md, one fact and one draw at a time."""
    members = [[fact for fact in range(len(strata)) if strata[fact] == stratum] for stratum in range(count)]
    value, over_draws, interaction = 0.0, [], 0.0
    across = [0.0] * len(strata)
    for block in blocks:
        number = block.shape[1]
        by_draw = [[np.mean([block[fact, draw] for fact in part]) for draw in range(number)] for part in members]
        draws = [np.mean([row[draw] for row in by_draw]) for draw in range(number)]
        value += float(np.mean(draws))
        over_draws.append((np.var(draws, ddof=1) / number, number - 1))
        for part, row in zip(members, by_draw, strict=True):
            rest = 0.0
            for fact in part:
                own = np.mean(block[fact])
                across[fact] += float(own - np.mean(row))
                rest += sum((block[fact, draw] - own - row[draw] + np.mean(row)) ** 2 for draw in range(number))
            if len(part) > 1:
                interaction += rest / (len(part) - 1) / (number - 1) / len(part) / number / count**2
    everyone = np.var([sum(np.mean(block[fact]) for block in blocks) for fact in range(len(strata))], ddof=1)
    over_facts = []
    for part in members:
        spread = sum(across[fact] ** 2 for fact in part) / (len(part) - 1) if len(part) > 1 else everyone
        over_facts.append((spread / len(part) / count**2, max(len(part) - 1, 1)))

    def welch(parts: list) -> float:
        return sum(one for one, _ in parts) ** 2 / sum(one**2 / df for one, df in parts)

    seeds, facts = (sum(one for one, _ in parts) for parts in (over_draws, over_facts))
    fewest = min(block.shape[1] for block in blocks)
    rest = max(facts - interaction, 0.0)
    return Contrast(value, fewest, len(strata), seeds, welch(over_draws), rest, welch(over_facts), interaction)


@pytest.mark.parametrize("draws", [(3,), (2, 5), (4, 3, 2)])
@pytest.mark.parametrize("sizes", [(6,), (1, 2, 3), (2, 9), (1, 30)])
def test_several_kinds_and_small_strata_are_as_defined(draws: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(len(draws) + sum(sizes))
    strata = drawn.permutation(np.repeat(np.arange(len(sizes)), sizes))
    blocks = [drawn.normal(number, 1 + number, (len(strata), number)) for number in draws]
    blocks = [block + drawn.normal(0, 3, (len(strata), 1)) for block in blocks]
    found, expected = crossed(blocks, strata, len(sizes)), plainly(blocks, strata, len(sizes))
    assert astuple(found) == pytest.approx(astuple(expected))


def test_what_is_not_known_is_said() -> None:
    block = np.random.default_rng(1).normal(size=(4, 1))
    one = crossed([block], np.array([0, 0, 1, 1]), 2)
    assert np.isnan(one.seed_variance) and one.variance == one.fact_variance > 0 and one.seeds == 1
    empty = crossed([block], np.array([0, 0, 2, 2]), 3)
    assert np.isnan(empty.value) and (empty.seeds, empty.facts) == (1, 4)
    none = crossed([block[:, :0]], np.array([0, 0, 1, 1]), 2)
    assert np.isnan(none.value) and (none.seeds, none.facts) == (0, 4)


def contrast(value: float, seeds: int = 3) -> Contrast:
    return Contrast(value, seeds, 200, 4e-4, 5.0, 1e-4, 150.0, 1e-5)


def test_more_draws_lower_what_is_over_draws_alone() -> None:
    one = contrast(0.1)
    assert one.with_seeds(3) == one
    more = one.with_seeds(6)
    assert (more.value, more.seeds, more.facts) == (0.1, 6, 200)
    assert (more.seed_variance, more.interaction) == pytest.approx((2e-4, 5e-6))
    assert more.seed_df == pytest.approx(5.0 * 5 / 2) and (more.fact_variance, more.fact_df) == (1e-4, 150.0)


@pytest.mark.parametrize("bound", [-0.3, 0.3])
def test_the_side_of_the_bound_says_for_how_many_choices_a_level_is_corrected(bound: float) -> None:
    grid = Comparison(tuple(tuple(contrast(0.01 * (row - column)) for column in range(3)) for row in range(2)))
    choices = 2 if grid.value >= bound else 3
    assert grid.detectable(0.04, bound) == grid.deciding.detectable(0.02 / choices)
    assert grid.deciding.detectable(0.02 / choices) > grid.deciding.detectable(0.02)


@pytest.mark.parametrize("distance", [0.03, 0.05, 0.08])
def test_the_draws_that_are_needed_are_the_fewest_that_would_show_it(distance: float) -> None:
    one = single(contrast(0.2 + distance))
    enough = [seeds for seeds in range(4, 51) if one.deciding.with_seeds(seeds).detectable(0.025) <= distance]
    assert one.seeds_needed(0.05, 0.2) == (enough[0] if enough else None)
    if enough:
        assert one.seeds_needed(0.05, 0.2, most=enough[0]) == enough[0]
        assert one.seeds_needed(0.05, 0.2, most=enough[0] - 1) is None


def test_p_values_at_and_far_from_the_bound() -> None:
    one = contrast(0.2)
    assert one.tails(0.2) == pytest.approx((0.5, 0.5))
    assert one.tails(-1e9) == pytest.approx((1e-12, 1.0)) and one.tails(1e9) == pytest.approx((1.0, 1e-12))
    above, below = one.tails(0.2 - one.half_width(0.01))
    assert (above, below) == pytest.approx((0.01, 0.99))
    above, below = one.tails(0.2 + one.half_width(0.01))
    assert (above, below) == pytest.approx((0.99, 0.01))
    still = Contrast(0.2, 3, 200, 0.0, 2.0, 0.0, 150.0, 0.0)
    assert still.tails(0.0) == (1.0, 1.0) and still.half_width(0.01) == float("inf")
    grid = Comparison(((one, one), (one, one), (one, one)))
    assert grid.tails(0.2) == pytest.approx((1.0, 1.0))
