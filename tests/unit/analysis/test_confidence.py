"""The probability of the given answer: AUROC against counting pairs, and the tables on answers worked out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowshift.analysis.answer_matrix import Answerer, read_answers
from knowshift.analysis.confidence import auroc, tabulate_confidence
from knowshift.analysis.study import BASE, Study
from knowshift.evaluation.schemas import ANSWERS

RUNS = [Answerer("full-mixed-2-s1"), Answerer("full-mixed-2-s2")]


@settings(deadline=None)  # the first example imports SciPy
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_auroc_is_the_share_of_pairs_in_the_right_order(answers: list[tuple[int, bool]]) -> None:
    scores, correct = np.array([score for score, _ in answers]), np.array([right for _, right in answers])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[correct] for b in scores[~correct]]
    expected = np.mean(pairs) if pairs else np.nan
    assert auroc(scores, correct) == pytest.approx(expected, nan_ok=True)
    assert auroc(np.exp(scores / 7), correct) == pytest.approx(expected, nan_ok=True)  # only the order counts
    assert auroc(-scores, correct) == pytest.approx(1 - expected, nan_ok=True)


def made_study(path: Path) -> Study:
    """Four questions to the pre-trained model and two runs; the answers of the first run are sure, and half right."""
    confidences = {BASE: [0.5] * 4, RUNS[0]: [0.9, 0.9, 0.7, 0.2], RUNS[1]: [0.1, 0.3, 0.5, 0.7]}
    right = {BASE: [False] * 4, RUNS[0]: [True, False, True, False], RUNS[1]: [False, False, True, True]}
    rows = [
        {**key._asdict(), "fact_id": str(fact), "set": "test", "level": 1, "output": "x",
         "whole_words": right[key][fact], "substring": True, "exact": False, "gold_logprob": -1.0, "answer_tokens": 2,
         "answer_logprob": float(np.log(confidence)) / 2}
        for key, mine in confidences.items() for fact, confidence in enumerate(mine)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=ANSWERS), path)
    cells = pd.DataFrame(
        [{"run": key.run, "method": "full", "data": "mixed", "size": "2", "facts": 2, "seed": seed, "state": "run"}
         for seed, key in enumerate(RUNS)]
    )  # fmt: skip
    return Study(cells, read_answers(path, "whole_words", list("0123")), np.ones(4, int), 1)


def test_confidence_by_hand(tmp_path: Path) -> None:
    study = made_study(tmp_path / "answers.parquet")
    bins, errors = (
        part.to_pandas() for part in tabulate_confidence(study, tmp_path / "answers.parquet", "whole_words")
    )
    assert bins.groupby("state")["questions"].sum().to_dict() == {"before": 4, "after": 8}
    rows = errors.set_index("state")
    before, after = rows.loc["before"], rows.loc["after"]
    assert before["error"] == pytest.approx(0.5) and np.isnan(before["auroc"]) and np.isnan(before["auroc_spread"])
    assert after["auroc"] == pytest.approx(np.mean([(0.5 + 1 + 0 + 1) / 4, 1.0]))
    assert after["auroc_per_token"] == pytest.approx(after["auroc"])  # all answers have two tokens
    assert after["error"] == pytest.approx(np.mean([(2 * 0.4 + 0.3 + 0.2) / 4, (0.1 + 0.3 + 0.5 + 0.3) / 4]), abs=1e-6)
    assert (after["confidence"], after["accuracy"]) == (pytest.approx(4.3 / 8), 0.5)
    assert after["error_per_token"] > after["error"] and after["seeds"] == 2
    _, otherwise = tabulate_confidence(study, tmp_path / "answers.parquet", "substring")
    assert otherwise["accuracy"].to_pylist() == [1.0, 1.0]  # by the rule that is asked for
