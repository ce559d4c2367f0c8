"""Models that were fine-tuned elsewhere: what they kept, lost and learned, and that they stand beside the grid."""

import numpy as np
import pandas as pd
import pytest

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.claims import judge
from knowshift.analysis.fates import tabulate_fates
from knowshift.analysis.recommendation import list_candidates, recommend, tabulate_strategies
from knowshift.analysis.restoration_tests import tabulate_restorations
from knowshift.analysis.run_schemas import CONCENTRATION
from knowshift.analysis.scores import tabulate_scores
from knowshift.analysis.study import BASE, FEW_SHOT, Study
from made_up_studies import make_study

GRID = {("level0", 8, 1): 0.5, ("mixed", 8, 1): 0.4}
ELSEWHERE = {("bot",): 0.35, ("bot", 5.0): 0.45, ("bot", 20.0): 0.6, ("lora",): 0.2}
EMPTY = CONCENTRATION.empty_table().to_pandas()


def study_of(grid: dict = GRID, noise: float = 0.7) -> Study:
    return make_study(grid, {}, noise=noise, per_level=40, elsewhere=ELSEWHERE)


def test_fates_are_those_of_a_plain_count() -> None:
    study = study_of()
    topics = np.array(["a", "b", "b"], object)[np.arange(len(study.levels)) % 3]
    rows = tabulate_fates(study, topics).to_pandas()
    panel = study.panels["test"]
    for row in rows[rows["set"] == "test"].to_dict("records"):
        restored = () if pd.isna(row["percent"]) else (row["strategy"], row["region"], row["percent"])
        asked = np.full(panel.questions, True) if pd.isna(row["topic"]) else topics[panel.facts] == row["topic"]
        before = panel.correct[asked, panel.columns[BASE]]
        after = panel.correct[asked, panel.columns[Answerer(f"tuned-{row['data']}", *restored)]]
        assert row["kept"] == (before & after).sum() and row["lost"] == (before & ~after).sum()
        assert row["learned"] == (~before & after).sum() and row["facts"] == asked.sum()
        assert row["change"] == pytest.approx(after.mean() - before.mean())
        assert row["change_low"] <= row["change"] <= row["change_high"]
        assert row["kept_share_low"] <= row["kept_share"] == (before & after).sum() / before.sum()
    mine = rows[(rows["set"] == "test") & rows["topic"].isna()]
    assert mine[["data", "percent"]].fillna(0).to_records(index=False).tolist() == [
        ("bot", 0), ("bot", 5), ("bot", 20), ("lora", 0),
    ]  # fmt: skip
    assert mine["chosen"].tolist() == [False, False, True, False]


def test_the_base_is_compared_after_examples_where_it_was_asked_so() -> None:
    study = study_of()
    (bot, _), (trained, _) = (
        [one for one in study.conditions if one.elsewhere],
        [one for one in study.conditions if not one.elsewhere],
    )
    assert study.before(bot) == BASE and bot.columns["size"] is None and bot in study.shown
    for panel in study.panels.values():
        panel.columns[FEW_SHOT] = panel.columns[BASE]
    assert study.before(bot) == FEW_SHOT and study.before(trained) == BASE
    assert set(tabulate_fates(study, np.full(len(study.levels), "a", object))["asked_with"].to_pylist()) == {"few-shot"}


@pytest.mark.parametrize("grid", [GRID, {}])
def test_the_grid_and_models_from_elsewhere_leave_one_another_alone(grid: dict) -> None:
    study, alone = study_of(grid, 0), make_study(grid, {}, noise=0, per_level=40)
    assert study.kinds == alone.kinds and {one.condition.data for one in list_candidates(study)} == {
        data for data, _, _ in grid
    }
    advice, before = (recommend(one, "results/m").to_pylist() for one in (study, alone))
    assert [row for row in advice if row["method"] != "tuned"] == (before if grid else [])
    assert {(row["run"], row["percent"]) for row in advice if row["method"] == "tuned"} == {
        ("tuned-bot", 20.0), ("tuned-lora", 0.0),
    }  # fmt: skip
    assert tabulate_strategies(study).equals(tabulate_strategies(alone))
    verdicts = [[part.row for part in judge(one, {}, EMPTY)] for one in (study, alone)]
    assert verdicts[0] == verdicts[1]
    scores = tabulate_scores(study, np.full(len(study.levels), "a", object)).to_pandas()
    assert set(scores[scores["method"] == "tuned"]["data"]) == {"bot", "lora"}
    tested = tabulate_restorations(study, EMPTY).to_pandas()
    assert set(tested["data"]) == {"bot"} and set(tested["percent"]) == {0, 5, 20}
