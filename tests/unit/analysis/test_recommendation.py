"""What is recommended: the rule by hand, its standard errors, and by simulation what recommending costs and finds."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from knowshift.analysis.answer_matrix import Answerer, Answers
from knowshift.analysis.contrasts import Contrast, crossed
from knowshift.analysis.recommendation import (
    Candidate,
    best_on_dev,
    choose,
    chosen_restoration,
    compare,
    list_candidates,
    recommend,
    simplicity,
    tabulate_strategies,
)
from knowshift.analysis.study import BASE, Condition, RestoredCondition, Study
from made_up_studies import make_study


def by_loops(values: np.ndarray, strata: np.ndarray) -> tuple[float, float]:
    """The mean and its variance, from the textbook's sums of squares of a balanced two-way layout in each stratum."""
    levels, seeds = sorted(set(strata)), values.shape[1]
    means = [[values[strata == level, seed].mean() for seed in range(seeds)] for level in levels]
    of_facts = of_answers = 0.0
    for level in levels:
        rows = values[strata == level]
        count, whole = len(rows), rows.mean()
        of_facts += sum((row.mean() - whole) ** 2 for row in rows) / (count - 1) / count / len(levels) ** 2
        for row in rows:
            for seed in range(seeds):
                rest = row[seed] - row.mean() - rows[:, seed].mean() + whole
                of_answers += rest**2 / (count - 1) / (seeds - 1) / count / seeds / len(levels) ** 2
    by_seed = np.mean(means, axis=0)
    of_seeds = sum((value - by_seed.mean()) ** 2 for value in by_seed) / (seeds - 1) / seeds
    return float(by_seed.mean()), of_seeds + max(0.0, of_facts - of_answers)


def mean(values: np.ndarray, strata: np.ndarray) -> Contrast:
    return crossed([values], strata, len(np.unique(strata)))


def test_crossed_errors_agree_with_sums_of_squares() -> None:
    draw = np.random.default_rng(2)
    for _ in range(20):
        sizes = draw.integers(2, 9, 4)
        strata = np.repeat(np.arange(4), sizes)
        values = draw.integers(-1, 2, (len(strata), 3)) + draw.normal(0, draw.random(), 3)
        value, variance = by_loops(values, strata)
        found = mean(values, strata)
        assert (found.value, found.variance) == pytest.approx((value, variance))


def test_crossed_errors_in_special_cases() -> None:
    one_seed = np.array([[0], [1], [1], [0], [1], [1]])
    found = mean(one_seed, np.zeros(6, int))
    assert found.standard_error == pytest.approx(one_seed.std(ddof=1) / np.sqrt(6)) and found.fact_df == 5
    assert found.half_width(0.025) == pytest.approx(2.5706 * found.standard_error, rel=1e-4)  # of Student's t with 5
    copies = mean(np.repeat(one_seed, 5, axis=1), np.zeros(6, int))
    assert copies.standard_error == pytest.approx(found.standard_error)  # five equal answers are no five questions
    same = mean(np.zeros((4, 2)), np.arange(4))
    assert (same.value, same.standard_error) == (0, 0)
    lone = mean(np.array([[0.0], [1.0]]), np.arange(2))  # a question per level
    assert lone.value == 0.5 and lone.standard_error == pytest.approx(0.5)


@pytest.mark.parametrize(("of_facts", "of_seeds"), [(0.4, 0.0), (0.4, 0.05), (0.0, 0.05), (0.2, 0.02)])
def test_crossed_intervals_cover(of_facts: float, of_seeds: float) -> None:
    draw = np.random.default_rng(3)
    strata, runs = np.repeat(np.arange(5), 12), 600
    missed = 0
    for _ in range(runs):
        values = draw.normal(0, of_facts, (60, 1)) + draw.normal(0, of_seeds, 3) + draw.normal(0, 0.3, (60, 3))
        found = mean(values, strata)
        missed += abs(found.value) > found.half_width(0.025)
    assert missed / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


def test_the_order_of_simplicity() -> None:
    def condition(method: str, data: str, size: int) -> Condition:
        return Condition(method, data, size, str(size), (), ())

    def restored(one: Condition, percent: float, strategy: str = "top") -> Candidate:
        return Candidate(one, RestoredCondition(one, strategy, "transformer", percent, ()))

    small, large = condition("full", "mixed", 60), condition("full", "mixed", 240)
    order = [
        Candidate(small),
        Candidate(condition("full", "level2", 60)),
        Candidate(condition("lora", "mixed", 60)),
        Candidate(large),
        restored(small, 5),
        restored(small, 5, "absolute"),
        restored(condition("lora", "mixed", 60), 5),
        restored(small, 20),
        restored(large, 5),
    ]
    shuffled = [order[index] for index in np.random.default_rng(1).permutation(len(order))]
    assert sorted(shuffled, key=simplicity) == order


def test_of_recipes_within_one_standard_error_the_simplest_is_taken() -> None:
    study = make_study({("mixed", 60, 1): 0.51, ("mixed", 240, 1): 0.52}, {("mixed", 60, 1, 5.0): 0.53}, per_level=100)
    apart = make_study({("mixed", 60, 1): 0.41, ("mixed", 240, 1): 0.52}, {("mixed", 60, 1, 5.0): 0.63}, per_level=100)
    # Answers are nested, so even a point is told apart; with independent answers it is not.
    noisy = make_study({("mixed", 60, 1): 0.51, ("mixed", 240, 1): 0.52}, {("mixed", 60, 1, 5.0): 0.53}, noise=1.0)
    percents = [choose(one, list_candidates(one)).restored_columns["percent"] for one in (study, apart, noisy)]
    assert percents == [5, 5, 0]
    assert best_on_dev(noisy, list_candidates(noisy)).restored_columns["percent"] == 5
    row = recommend(noisy, "m").to_pylist()[0]
    assert 0 < row["behind"] <= row["behind_error"] and row["size"] == 60
    # The gain is over the best unrestored recipe on dev, even where that is another one.
    assert (row["unrestored_size"], row["gain"]) == (240, pytest.approx(-0.01))
    assert row["gain_low"] < row["gain"] < row["gain_high"]


def test_all_candidates_are_compared_on_equal_seeds() -> None:
    tuned = {("mixed", 60, 1): 0.9, ("mixed", 60, 2): 0.3, ("mixed", 60, 3): 0.3}
    study = make_study(tuned, {("mixed", 60, 1, 5.0): 0.8})
    comparison = compare(study, list_candidates(study))
    assert comparison.seeds == (1,) and comparison.best.restoration is None  # 0.9, not the mean of 0.5
    rows = recommend(study, "m").to_pylist()
    assert {row["seeds"] for row in rows} == {1} and "one seed in common" in rows[0]["note"]
    assert rows[0]["accuracy"] == pytest.approx(0.9)
    # So is the best unrestored recipe: level 0 is better with the seed that all have, though not with the second.
    two = make_study(
        {("mixed", 60, 1): 0.5, ("mixed", 60, 2): 0.9, ("level0", 60, 1): 0.6, ("level0", 60, 2): 0.1},
        {("mixed", 60, 1, 5.0): 0.4},
    )
    assert {row["unrestored_data"] for row in recommend(two, "m").to_pylist()} == {"level0"}
    without = make_study({("mixed", 60, 1): 0.5, ("level0", 60, 2): 0.9, ("level2", 60, 2): 0.7})
    comparison = compare(without, list_candidates(without))
    assert comparison.seeds == (2,) and len(comparison.candidates) == 2  # no seed is common: the most frequent one


def test_controls_are_never_recommended() -> None:
    study = make_study({("mixed", 60, 1): 0.5}, {("mixed", 60, 1, 5.0): 0.6})
    one = study.restorations[0]
    for strategy in ("random", "bottom"):
        key = Answerer(one.runs[0], strategy, "transformer", 5.0)
        for panel in study.panels.values():  # a control that answers everything
            panel.columns[key] = panel.correct.shape[1]
            panel.correct = np.column_stack([panel.correct, np.ones(panel.questions, bool)])
        study.restorations.append(RestoredCondition(one.condition, strategy, "transformer", 5.0, one.runs))
    assert len(study.restorations) == 3 and len(list_candidates(study)) == 2
    assert chosen_restoration(study, one.condition) == one
    assert {row["strategy"] for row in recommend(study, "m").to_pylist()} == {"top"}
    chosen = [row for row in tabulate_strategies(study).to_pylist() if row["strategy"] == "restored"]
    assert {row["selection"] for row in chosen} == {"top"}


def test_few_dev_questions_are_said_to_be_few() -> None:
    notes = [recommend(make_study({("mixed", 60, 1): 0.5}, per_level=n), "m")["note"][0].as_py() for n in (19, 20)]
    assert "95 dev questions are few" in notes[0] and "few" not in notes[1]


# By simulation. Recipes are (data kind, size, share restored).
KINDS, SIZES, SHARES, SEEDS = ("level0", "level2", "mixed"), (8, 32, 96), (1, 5, 10, 20, 40, 60), (1, 2, 3)
RECIPES = [(kind, size, 0) for kind in KINDS for size in SIZES] + [
    (kind, 96, share) for kind in KINDS for share in SHARES
]
PLAIN = {
    recipe: 0.5 + {8: -0.05, 32: 0.0, 96: 0.05}[recipe[1]] + {"level0": -0.05, "mixed": 0.03, "level2": 0.05}[recipe[0]]
    for recipe in RECIPES
}
PER_LEVEL = {"dev": 40, "test": 40}


def simulate(truth: Mapping[tuple, float], draw: np.random.Generator) -> Study:
    """A study of recipes with a true accuracy each.

    Training sets of a cell differ by 1 point (standard deviation), and so do their restored models; facts are hard or
    easy for all models alike, which correlates their answers (a latent correlation of 0.6).
    """
    shifts = {(kind, size, seed): draw.normal(0, 0.01) for kind in KINDS for size in SIZES for seed in SEEDS}
    chances = {BASE: 0.2}
    for (kind, size, share), accuracy in truth.items():
        for seed in SEEDS:
            how = ("top", "transformer", float(share)) if share else ()
            chances[Answerer(f"full-{kind}-{size}-s{seed}", *how)] = accuracy + shifts[kind, size, seed]
    answers, levels, start = {}, [], 0
    for name, count in PER_LEVEL.items():
        facts = np.arange(start, start := start + 5 * count)
        ease = 0.6**0.5 * draw.normal(size=(len(facts), 1)) + 0.4**0.5 * draw.normal(size=(len(facts), len(chances)))
        correct = ease < norm.ppf(list(chances.values()))
        nothing = np.zeros(len(facts), np.float32)
        answers[name] = {key: Answers(facts, correct[:, column], nothing) for column, key in enumerate(chances)}
        levels.append(np.repeat(np.arange(5), count))
    cells = pd.DataFrame(
        [
            {"run": f"full-{kind}-{size}-s{seed}", "method": "full", "data": kind, "size": str(size), "facts": size,
             "seed": seed, "state": "run"}
            for kind in KINDS for size in SIZES for seed in SEEDS
        ]
    )  # fmt: skip
    return Study(cells, answers, np.concatenate(levels), 1)


def test_no_simpler_recipe_is_as_accurate_as_the_recommended_one() -> None:
    draw = np.random.default_rng(8)
    for _ in range(20):
        study = simulate(PLAIN, draw)
        contest = compare(study, list_candidates(study))
        assert contest is not None
        chosen = contest.candidates.index(contest.chosen)
        assert max((contest.accuracy(one) for one in contest.candidates[:chosen]), default=0) < contest.accuracy(
            contest.chosen
        )


def outcomes(truth: Mapping[tuple, float], runs: int) -> pd.DataFrame:
    """What is recommended in simulated studies: a row per study, with the true accuracy of the recipe as `truth`."""
    draw = np.random.default_rng(4)
    rows = [recommend(simulate(truth, draw), "m").to_pylist()[0] for _ in range(runs)]
    return pd.DataFrame(
        [
            row | {"truth": truth[row["data"], row["size"], row["percent"]],
                   "plain": truth[row["unrestored_data"], row["unrestored_size"], 0]}
            for row in rows
        ]
    )  # fmt: skip


def test_recommending_costs_nothing_where_all_recipes_are_equal() -> None:
    found = outcomes(dict.fromkeys(RECIPES, 0.5), 120)
    error = found["gain"].std() / np.sqrt(len(found))
    assert abs(found["gain"].mean()) < 0.003 + 3 * error < 0.015  # 0.003: the best on dev also has luck with its seeds
    away = ((found["gain_low"] > 0) | (found["gain_high"] < 0)).mean()
    assert away <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(found))
    assert (found["percent"] > 0).mean() < 0.15  # something more complicated has to earn its place


@pytest.mark.parametrize("harm", [0.0, 0.002])
def test_recommending_costs_little_where_restoring_does_not_help(harm: float) -> None:
    truth = {recipe: value - harm * recipe[2] for recipe, value in PLAIN.items()}  # up to 12 points at 60 %
    found = outcomes(truth, 60)
    regret = max(truth.values()) - found["truth"]
    assert regret.mean() < 0.02  # of 20 points between recipes; it is the price of preferring fewer facts
    assert (found["truth"] - found["plain"]).mean() > -0.015
    assert found.loc[found["percent"] > 0, "truth"].min() > 0.55 if (found["percent"] > 0).any() else True


def test_an_effect_of_restoring_is_found() -> None:
    helps = ("level2", 96, 20)
    found = outcomes(PLAIN | {helps: PLAIN[helps] + 0.1}, 60)
    right = (found["data"] == helps[0]) & (found["percent"] == helps[2])
    assert right.mean() > 0.9 and found["gain"].mean() == pytest.approx(0.1, abs=0.02)
