"""Halves of the completions: how they are formed, what levels follow, and how well they agree."""

from collections import Counter
from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from knowshift.configuration.mastery import Mastery
from knowshift.facts.matching import Synonyms
from knowshift.facts.schemas import FACTS
from knowshift.mastery.levels import count_levels, grade, half_of
from knowshift.mastery.reliability import measure_reliability, regress_levels
from knowshift.mastery.schemas import COMPLETIONS
from made_up_facts import fact

BOUNDARIES = (0.25, 0.5, 0.75)


@pytest.mark.parametrize(("templates", "samples"), [(3, 4), (21, 10), (3, 3), (2, 1), (1, 2)])
def test_halves_take_turns_within_a_template_and_are_as_equal_as_can_be(templates: int, samples: int) -> None:
    halves = {(t, s): half_of(t, s) for t, s in product(range(templates), range(samples))}
    assert all(halves[t, s] != halves[t, s + 1] for t in range(templates) for s in range(samples - 1))
    count = Counter(halves.values())
    assert abs(count[0] - count[1]) <= 1


def graded(levels_from: str, samples: int = 4) -> pa.Table:
    """One fact with two templates, known in the whole first half and nowhere in the second."""
    facts = pa.Table.from_pylist([fact(1)], schema=FACTS)
    rows = [
        {"fact_id": "f1", "template": t, "sample": s, "text": "z" if half_of(t, s) else "it is x"}
        for t, s in product(range(2), range(samples))
    ]
    completions = pa.Table.from_pylist(rows, schema=COMPLETIONS)
    return grade(facts, completions, 2, Synonyms({}), "whole_words", BOUNDARIES, levels_from)  # type: ignore[arg-type]


def test_draws_go_by_the_first_half_and_analyses_by_the_second() -> None:
    row = graded("all").to_pylist()[0]
    assert (row["mastery"], row["level"], row["draw_level"]) == (0.5, 2, 2)
    assert row["half_mastery"] == [1.0, 0.0] and row["half_levels"] == [4, 0]
    table = graded("first_half")
    row = table.to_pylist()[0]
    assert (row["mastery"], row["level"], row["draw_level"]) == (0.0, 0, 4)
    assert row["successes"] == [2, 2]  # of all completions, in either case
    counts = {row["level"]: (row["facts"], row["drawable"]) for row in count_levels(table).to_pylist()}
    assert counts == {0: (1, 0), 1: (0, 0), 2: (0, 0), 3: (0, 0), 4: (0, 1)}


def test_a_half_without_completions_is_null_and_cannot_be_drawn_by() -> None:
    facts = pa.Table.from_pylist([fact(1)], schema=FACTS)
    one = pa.Table.from_pylist([{"fact_id": "f1", "template": 0, "sample": 0, "text": "x"}], schema=COMPLETIONS)
    row = grade(facts, one, 1, Synonyms({}), "whole_words", BOUNDARIES).to_pylist()[0]
    assert row["half_mastery"] == [1.0, None] and row["half_levels"] == [4, None]
    with pytest.raises(ValueError, match="two completions"):
        Mastery(templates=1, samples=1, levels_from="first_half")
    assert Mastery(templates=1, samples=2, levels_from="first_half").levels_from == "first_half"


def simulate(facts: int, completions: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mastery of either half of facts whose true mastery is uniform, and of a third set as large as both halves."""
    truth = rng.random(facts)
    halves = np.stack([rng.binomial(completions, truth) / completions for _ in range(2)], axis=1)
    return halves, np.stack([rng.binomial(2 * completions, truth) / (2 * completions) for _ in range(2)], axis=1)


def test_spearman_brown_foretells_the_correlation_of_tests_twice_as_long() -> None:
    halves, wholes = simulate(20_000, 6, np.random.default_rng(1))
    levels = np.ceil(halves * 4)
    found = measure_reliability(halves, levels, np.zeros((20_000, 1)))
    assert found.correlation == pytest.approx(6 * (1 / 12) / (6 / 12 + 1 / 6), abs=0.01)  # variance within: E[q(1-q)]/6
    assert found.spearman_brown == pytest.approx(np.corrcoef(wholes.T)[0, 1], abs=0.01)
    assert found.agreement == pytest.approx((levels[:, 0] == levels[:, 1]).mean()) and 0.3 < found.agreement < 0.8
    assert found.template_correlations == ()


def test_extreme_levels_regress_to_the_mean_as_theory_says() -> None:
    halves, _ = simulate(40_000, 6, np.random.default_rng(2))
    rows = {row.level: row for row in regress_levels(halves, np.ceil(halves * 4), range(5))}
    assert sum(row.facts for row in rows.values()) == 40_000
    assert rows[0].observed == 0 and rows[0].expected == pytest.approx(1 / 8, abs=4 * rows[0].error)  # Beta(1, 7)
    assert rows[4].expected < rows[4].observed and rows[0].error < 0.005


def test_templates_that_agree_correlate_and_what_cannot_be_told_is_nan() -> None:
    successes = np.array([[0, 0, 4], [4, 4, 0], [2, 2, 2]])
    found = measure_reliability(np.full((3, 2), 0.5), np.full((3, 2), 2.0), successes)
    assert found.template_correlations == pytest.approx((1, -1, -1))
    assert found.agreement == 1 and np.isnan(found.correlation)
    empty = measure_reliability(np.full((3, 2), np.nan), np.full((3, 2), np.nan), successes)
    assert empty.facts == 0 and np.isnan(empty.agreement)
    assert regress_levels(np.full((3, 2), np.nan), np.full((3, 2), np.nan), range(5)) == []


def test_a_few_facts_by_hand() -> None:
    halves = np.array([[0.0, 0.5], [0.0, 0.0], [0.0, 0.25], [1.0, 1.0], [0.5, np.nan], [np.nan, 1.0]])
    levels = np.array([[0, 2], [0, 0], [0, 1], [4, 4], [2, 9], [9, 4]], float)
    found = measure_reliability(halves, levels, np.zeros((6, 2)))
    r = np.corrcoef([0, 0, 0, 1], [0.5, 0, 0.25, 1])[0, 1]
    assert (found.facts, found.agreement) == (4, 0.5)
    assert found.correlation == pytest.approx(r) and found.spearman_brown == pytest.approx(2 * r / (1 + r))
    assert len(found.template_correlations) == 1 and np.isnan(found.template_correlations[0])
    none, top = regress_levels(halves, levels, [0, 1, 4])
    assert (none.level, none.facts, none.observed, none.expected) == (0, 3, 0, 0.25)
    assert none.error == pytest.approx(0.25 / np.sqrt(3)) and none.same_level == pytest.approx(1 / 3)
    assert (top.level, top.facts, top.observed, top.expected, top.same_level) == (4, 1, 1, 1, 1) and np.isnan(top.error)


def test_halves_that_contradict_each_other_have_no_reliability() -> None:
    halves = np.array([[0.0, 1.0], [1.0, 0.0]])
    found = measure_reliability(halves, halves * 4, np.array([[0, 3], [1, 3]]))
    assert found.correlation == pytest.approx(-1) and (found.agreement, found.facts) == (0, 2)
    assert np.isnan(found.template_correlations[0]), "a template that all facts answer alike"
    one = measure_reliability(halves[:1], halves[:1] * 4, np.array([[0, 3]]))
    assert (one.facts, one.agreement) == (1, 0) and np.isnan(one.correlation) and np.isnan(one.spearman_brown)
