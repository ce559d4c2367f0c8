"""Tables of a model's runs, from small artefacts that are made by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from knowshift.analysis.answer_matrix import Answerer, Answers
from knowshift.analysis.claims import tabulate_claims
from knowshift.analysis.model_tables import PAPER_PERCENTS, read_changes, restored_model, tabulate_concentration
from knowshift.analysis.precision import tabulate_precision
from knowshift.analysis.restoration_tests import tabulate_restorations
from knowshift.analysis.run_scores import tabulate_runs
from knowshift.restoration.schemas import HISTOGRAM, TENSORS
from knowshift.runtime.parquet import write_table
from made_up_studies import make_study

RUN = "full-mixed-60-s1"


def write_changes(folder: Path, region: str = "transformer") -> Path:
    """Write the relative changes of a region with 1,000 parameters, and return the path of the histogram.

    100 parameters hold 80 % of the summed relative change, 100 more hold 10 %, and 800 hold the rest.
    """
    bins = [(0, 800, 10.0), (1, 100, 10.0), (2, 100, 80.0)]
    rows = [
        {
            **dict.fromkeys(HISTOGRAM.names, 0),
            "bin": b,
            "count": n,
            "sum": r,
            "absolute": n * 1.0,
            "squares": n * (1 + b),
            "visible_bfloat16": n * b // 4,
            "null_count": n,
            "null_sum": n * 1.0,
            "null_absolute": n * 1.0,
            "null_squares": n * 1.0,
        }
        for b, n, r in bins
    ]
    path = folder / RUN / f"changes/{region}.histogram.parquet"
    write_table(path, pa.Table.from_pylist(rows, schema=HISTOGRAM), HISTOGRAM)
    write_table(path.with_name(f"{region}.tensors.parquet"), TENSORS.empty_table(), TENSORS)
    return path


def test_shares_of_the_configuration_are_in_the_table_of_concentration_and_decide_claim_4a(tmp_path: Path) -> None:
    changes = read_changes([write_changes(tmp_path)])
    concentration = tabulate_concentration(changes, {"transformer": [2, 15, 0, 100]}).to_pandas()
    shares = concentration.set_index("percent")["share_without_zeros"]
    assert shares.index.tolist() == sorted([*PAPER_PERCENTS, 2, 15])  # nothing and everything go without saying
    assert shares[[2, 15, 20]].tolist() == pytest.approx([0.16, 0.85, 0.9])
    twenty = concentration.set_index("percent").loc[20]
    assert twenty["null_share"] == twenty["share_of_absolute"] == twenty["null_share_of_squares"] == 0.2
    assert twenty["share_of_squares"] == pytest.approx(500 / 1300)
    assert (twenty["visible_bfloat16"], twenty["changes_undone"]) == (pytest.approx(75 / 1000), 0.2)
    assert twenty["changes_undone_bfloat16"] == 1 and shares.index[0] == 1  # bfloat16 sees the largest 200 alone

    study = make_study({("mixed", 60, 1): 0.4}, {("mixed", 60, 1, 2.0): 0.42, ("mixed", 60, 1, 15.0): 0.5})
    restored = tabulate_restorations(study, concentration).to_pandas().query("set == 'test'").set_index("percent")
    assert restored["undone"].to_dict() == pytest.approx({0: 0, 2: 0.16, 15: 0.85})
    claims = tabulate_claims(study, {}, concentration).to_pandas().query("claim == 4 and part == 'a'")
    assert "15 % of parameters, 85 % of the summed relative change (15 % by chance)" in claims["compared"].item()

    without = tabulate_concentration(changes, {}).to_pandas()
    assert tabulate_restorations(study, without).to_pandas().query("percent > 0")["undone"].isna().all()


def test_shares_of_one_region_are_not_those_of_another(tmp_path: Path) -> None:
    changes = read_changes([write_changes(tmp_path, region) for region in ("transformer", "0-3")])
    table = tabulate_concentration(changes, {"0-3": [2]}).to_pandas()
    assert table.groupby("region")["percent"].agg(list).to_dict() == {
        "transformer": list(PAPER_PERCENTS),
        "0-3": sorted([*PAPER_PERCENTS, 2]),
    }


def test_a_path_names_its_restored_model() -> None:
    path = Path(f"runs/{RUN}/restored/top-0-3-2.5.selection.parquet")
    assert restored_model(path) == Answerer(RUN, "top", "0-3", 2.5)


def test_formats_are_scored_side_by_side_and_each_against_its_own_unrestored_model() -> None:
    levels, facts = np.array([0, 1, 2, 3, 4]), {f"f{number}": number for number in range(5)}
    all_right, none = [True] * 5, [False] * 5
    key, own = Answerer(RUN, "top", "transformer", 20.0), Answerer(RUN)
    given = {"test": {Answerer("base"): answers([0, 1, 2, 3, 4], none)}}
    given["test"] |= {own: answers([0, 1, 2, 3, 4], all_right), key: answers([0, 1, 2, 3, 4], [True] * 4 + [False])}

    def graded(correct: list[bool]) -> list[dict]:
        return [
            {"fact_id": fact, "set": "test", "correct": right, "gold_logprob": 0.0}
            for fact, right in zip(facts, correct, strict=True)
        ]

    arms = {("bfloat16", key): graded(none), ("bfloat16", key._replace(percent=0.0)): graded([False] + [True] * 4)}
    row = {"run": RUN, "region": "transformer", "percent": 20.0, "visible_bfloat16": 0.4, "changes_undone": 0.2}
    seen = pa.Table.from_pylist([{**row, "changes_undone_bfloat16": 0.5}])
    table = tabulate_precision(given, arms, "float32", facts, levels, seen).to_pandas()
    assert table["dtype"].tolist() == ["float32", "float32", "bfloat16", "bfloat16"]
    assert table["percent"].tolist() == [0, 20, 0, 20]
    assert table["accuracy"].tolist() == pytest.approx([1, 0.8, 0.8, 0])
    assert table["gain"].tolist() == pytest.approx([0, -0.2, 0, -0.8])
    assert table["visible"].tolist() == [1, 1, 0.4, 0.4] and table["undone"].tolist() == [0, 0.2, 0, 0.5]
    assert tabulate_precision(given, {}, "float32", facts, levels, seen).num_rows == 0


def answers(facts: list[int], correct: list[bool]) -> Answers:
    return Answers(np.array(facts), np.array(correct), np.zeros(len(facts), np.float32))


def test_scores_of_single_runs_by_hand() -> None:
    levels = np.array([0, 0, 1, 2, 3, 4, 0, 1])  # of facts 0 to 7; 6 and 7 are trained on
    test = [0, 1, 2, 3, 4, 5]
    half = Answerer(RUN, "top", "transformer", 50.0)
    given = {
        "train": {Answerer("base"): answers([6, 7], [False, True])},
        "test": {
            Answerer("base"): answers(test, [False, False, False, False, True, True]),
            Answerer(RUN): answers(test, [True, False, True, False, True, True]),
            half: answers(test, [True, False, True, True, True, True]),
        },
        "training_set": {Answerer(RUN): answers([6, 7], [True, True]), half: answers([6, 7], [False, True])},
    }
    divergence = pa.table({"fact_id": ["f", "g"], "set": ["test", "test"], "kl": [0.2, 0.4]})
    made = {name: table.to_pandas() for name, table in tabulate_runs(given, levels, {RUN: divergence}).items()}

    accuracy = made["accuracy"].set_index(["run", "set"])
    assert accuracy.loc[(RUN, "test"), ["questions", "correct"]].tolist() == [6, 4]
    assert accuracy.loc[(RUN, "test"), "accuracy"] == pytest.approx(np.mean([0.5, 1, 0, 1, 1]))
    assert pd.isna(accuracy.loc[(RUN, "training_set"), "accuracy"])  # no facts of levels 2 to 4
    assert accuracy.index.tolist()[:3] == [("base", "test"), ("base", "train"), (RUN, "test")]

    by_level = made["accuracy_by_level"].query("run == 'base' and set == 'train'")
    assert by_level["questions"].tolist() == [1, 1, 0, 0, 0] and by_level["correct"].tolist() == [0, 1, 0, 0, 0]
    assert by_level["accuracy"].isna().tolist() == [False, False, True, True, True]

    assert made["training_accuracy"].to_dict("records") == [{"run": RUN, "questions": 2, "before": 0.5, "after": 1.0}]
    assert made["divergence"][["set", "facts"]].to_numpy().tolist() == [["test", 2], ["test_ood", 0]]
    assert made["divergence"].loc[0, ["kl", "accuracy_level4"]].tolist() == pytest.approx([0.3, 1])

    restored = made["restored"].set_index(["percent", "set"])
    assert restored.loc[(0, "test"), "gain"] == 0 and restored.loc[(50, "test"), "gain"] == pytest.approx(0.2)
    assert pd.isna(restored.loc[(50, "training_set"), "gain"])
