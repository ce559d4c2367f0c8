"""The trade between knowledge and a task: what is recommended keeps the task on dev, and both are reported on test."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.fates import tabulate_fates
from knowshift.analysis.recommendation import chosen_restoration, recommend
from knowshift.analysis.study import BASE, Study
from knowshift.analysis.task_answers import grade_tasks, score
from knowshift.analysis.task_scores import TaskScores, read_task_scores
from knowshift.analysis.task_trade import on_frontier, tabulate_trade
from knowshift.evaluation.schemas import TASK_ANSWERS, TASK_OUTCOMES
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_table, write_table
from made_up_studies import make_study

PERCENTS = (5.0, 20.0, 60.0)
KNOWLEDGE = {("bot",): 0.3, ("bot", 5.0): 0.4, ("bot", 20.0): 0.6, ("bot", 60.0): 0.5}
EXAMPLES = 40  # in each half


def key_of(percent: float | None) -> Answerer:
    return Answerer("tuned-bot", *(() if percent is None else ("top", "transformer", percent)))


def scores(folder: Path, dev: dict, test: dict, **about) -> list[TaskScores]:
    """Write and read a task whose models (by percent restored; "base") do a number of the examples of each half."""
    rows = []
    for half, done in (("dev", dev), ("test", test)):
        for percent, right in done.items():
            key = BASE if percent == "base" else key_of(percent)
            rows += [
                {**key._asdict(), "task": "support", "example": 1 + number + EXAMPLES * (half == "test"), "half": half,
                 "expected": ["yes"], "output": "yes", "logprob": None, "score": float(number < right)}
                for number in range(EXAMPLES)
            ]  # fmt: skip
    write_table(folder / "task_answers.parquet", pa.Table.from_pylist(rows, schema=TASK_ANSWERS), TASK_ANSWERS)
    settings = {"support": {"metric": "contains", "tolerance": 0.05, **about}}
    return read_task_scores(folder / "task_answers.parquet", settings, 1)


def study_of(tasks: list[TaskScores]) -> Study:
    study = make_study({}, {}, per_level=40, elsewhere=KNOWLEDGE)
    return Study(study_cells(), study.answers, study.levels, 1, tasks)


def study_cells() -> pd.DataFrame:
    return pd.DataFrame([{"run": "tuned-bot", "method": "tuned", "data": "bot", "state": "run"}])


DEV = {"base": 4, None: 36, 5.0: 36, 20.0: 33, 60.0: 10}
TEST = {"base": 5, None: 35, 5.0: 34, 20.0: 30, 60.0: 12}


@pytest.mark.parametrize(
    ("tolerance", "taken", "left_out"), [(0.05, 5.0, 2), (0.075, 20.0, 1), (0.0, 5.0, 2), (1, 20.0, 0)]
)
def test_the_recommended_share_knows_most_of_those_that_keep_the_task(
    tmp_path: Path, tolerance: float, taken: float, left_out: int
) -> None:
    tasks = scores(tmp_path, DEV, TEST, tolerance=tolerance)
    study = study_of(tasks)
    advice = recommend(study, "results/m").to_pylist()
    assert {(row["percent"], row["left_out"], row["candidates"]) for row in advice} == {(taken, left_out, 4 - left_out)}
    trade = tabulate_trade(study).to_pylist()
    chosen = [row for row in trade if row["chosen"]]
    assert [row["percent"] for row in chosen] == [taken]
    assert chosen[0]["score_dev"] == DEV[taken] / EXAMPLES and chosen[0]["score"] == TEST[taken] / EXAMPLES
    assert chosen[0]["knowledge"] == pytest.approx(KNOWLEDGE["bot", taken])
    (condition,) = study.conditions
    best = chosen_restoration(study, condition)
    assert best is not None and best.percent == taken
    fates = tabulate_fates(study, np.full(len(study.levels), "a", object)).to_pylist()
    assert {row["percent"] for row in fates if row["chosen"]} == {taken}


def test_without_a_share_that_keeps_the_task_nothing_is_restored(tmp_path: Path) -> None:
    study = study_of(scores(tmp_path, {**DEV, 5.0: 30}, TEST, tolerance=0.01))
    assert {row["percent"] for row in recommend(study, "results/m").to_pylist()} == {0.0}
    assert chosen_restoration(study, study.conditions[0]) is None
    assert [row["percent"] for row in tabulate_trade(study).to_pylist() if row["chosen"]] == [None]


def test_without_tasks_the_recommendation_is_that_of_one_standard_error() -> None:
    plain, none = make_study({}, {}, per_level=40, elsewhere=KNOWLEDGE), study_of([])
    assert recommend(plain, "m").equals(recommend(none, "m")) and tabulate_trade(none).num_rows == 0
    assert set(recommend(none, "m")["left_out"].to_pylist()) == {None}


def test_every_number_of_the_trade_is_a_plain_count(tmp_path: Path) -> None:
    rows = tabulate_trade(study_of(scores(tmp_path, DEV, TEST))).to_pylist()
    assert [row["percent"] for row in rows] == [None, None, *PERCENTS] and rows[0]["method"] == "pre-trained"
    assert rows[0]["score"] == 5 / 40 and rows[0]["keeps"] is None and rows[0]["frontier"] is None
    for row, percent in zip(rows[1:], (None, *PERCENTS), strict=True):
        assert row["score"] == TEST[percent] / 40 and row["examples"] == row["examples_dev"] == 40
        assert row["change"] == pytest.approx((TEST[percent] - TEST[None]) / 40)
        assert row["change_dev"] == pytest.approx((DEV[percent] - DEV[None]) / 40)
        assert row["keeps"] == (DEV[percent] >= DEV[None] - 2)
        assert row["change_low"] <= row["change"] <= row["change_high"]
        name = ("bot",) if percent is None else ("bot", percent)
        assert row["knowledge_change"] == pytest.approx(KNOWLEDGE[name] - KNOWLEDGE["bot",])
        assert row["knowledge_low"] < row["knowledge"] < row["knowledge_high"]
    points = [(row["knowledge"], row["score"]) for row in rows[1:]]
    assert [row["frontier"] for row in rows[1:]] == on_frontier(points) == [True, True, True, False]


def test_the_frontier_is_what_a_search_of_all_pairs_finds() -> None:
    draw = np.random.default_rng(3)
    for _ in range(50):
        points = [tuple(point) for point in draw.integers(0, 6, (9, 2)).tolist()]
        for one, best in zip(points, on_frontier(points), strict=True):
            beaten = [
                other for other in points
                if (other[0] > one[0] and other[1] >= one[1]) or (other[0] >= one[0] and other[1] > one[1])
            ]  # fmt: skip
            assert best == (not beaten)


def test_answers_are_scored_by_the_metric_and_named_by_their_path(tmp_path: Path) -> None:
    said = {"example": 1, "half": "dev", "expected": ["yes", "of course"], "logprob": None}
    given = {"Yes, of course.": (1, 0), "Of course!": (1, 1), "yesterday": (0, 0)}
    for output, (contains, exact) in given.items():
        assert score("contains", {**said, "output": output}) == contains
        assert score("exact", {**said, "output": output}) == exact
    assert score("loglikelihood", {**said, "logprob": -1.25}) == -1.25
    table = pa.Table.from_pylist([{**said, "output": "yes"}], schema=TASK_OUTCOMES)
    restored = {"strategy": "top", "region": "0-3", "percent": 20.5}
    paths = {
        "base_evaluation/tasks/support.parquet": ({}, BASE),
        "runs/tuned-bot/tasks/support.parquet": ({}, Answerer("tuned-bot")),
        "runs/tuned-bot/restored/top-0-3-20.5.support.task.parquet": (
            restored,
            Answerer("tuned-bot", *restored.values()),
        ),
    }
    for path, (about, _) in paths.items():
        write_table(tmp_path / path, table, TASK_OUTCOMES, {**about, "task": "support"})
    graded = grade_tasks([tmp_path / path for path in paths], {"support": "contains"}).to_pylist()
    assert [Answerer(*(row[name] for name in Answerer._fields)) for row in graded] == [key for _, key in paths.values()]
    assert all(row["score"] == 1 and row["task"] == "support" for row in graded)
    assert grade_tasks([], {}).num_rows == 0


def test_models_that_were_asked_other_examples_are_named(tmp_path: Path) -> None:
    scores(tmp_path, DEV, TEST)
    path = tmp_path / "task_answers.parquet"
    table = read_table(path).slice(1)
    write_table(path, table.replace_schema_metadata(None), TASK_ANSWERS)
    with pytest.raises(KnowshiftError, match="task support: tuned-bot was asked other examples"):
        read_task_scores(path, {"support": {"metric": "contains", "tolerance": 0.1}}, 1)
