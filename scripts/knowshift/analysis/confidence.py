"""Confidence: how well the probability that a model gives its own answer tells whether the answer is right."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.columns import known, spread, table
from knowshift.analysis.estimates import calibration_bins, calibration_error
from knowshift.analysis.right_answers import BINS, list_states
from knowshift.analysis.schemas import CONFIDENCE_BINS, CONFIDENCE_ERRORS
from knowshift.analysis.study import TESTS, Study


def auroc(scores: np.ndarray, correct: np.ndarray) -> float:
    """The chance that a right answer has a higher score than a wrong one, a tie counting half.

    It is the area under the ROC curve, computed from mean ranks (Mann and Whitney's U).

    Args:
        scores: (N,) any numbers that should be higher for right answers.
        correct: (N,) whether each answer is right.

    Returns:
        0 to 1; NaN if all answers are right or none is.
    """
    from scipy.stats import rankdata  # slow to import

    right = int(correct.sum())
    wrong = len(correct) - right
    if not right or not wrong:
        return float("nan")
    return float((rankdata(scores)[correct].sum() - right * (right + 1) / 2) / (right * wrong))


def tabulate_confidence(study: Study, path: Path, rule: str) -> tuple[pa.Table, pa.Table]:
    """Compare confidence and answers by bin and overall, in the schemas `CONFIDENCE_BINS` and `CONFIDENCE_ERRORS`.

    The confidence is the probability of the whole answer, the product over its tokens.

    Args:
        study: The study; the models shown are those of `right_answers.list_states`.
        path: The graded answers, in the schema `ANSWERS`.
        rule: The matching rule that decides which answers are right.
    """
    bins, errors = [], []
    states = list(list_states(study))
    given = _read(path, rule, {key for _, keys in states for key in keys})
    for head, keys in states:
        for name in TESTS:
            answers = [given[(*key, name)] for key in keys if (*key, name) in given]
            if not answers:
                continue
            mine = head | {"set": name}
            whole = pd.concat(answers)
            in_bins = calibration_bins(whole["confidence"].to_numpy(), BINS)
            for bin_ in np.unique(in_bins):
                here = whole[in_bins == bin_]
                means = {"confidence": here["confidence"].mean(), "accuracy": here["correct"].mean()}
                bins.append(mine | {"bin": int(bin_), "questions": len(here)} | means)
            count = {"seeds": len(answers), "questions": len(answers[0])}
            means = {"confidence": whole["confidence"].mean(), "accuracy": whole["correct"].mean()}
            errors.append(mine | count | means | _measures(answers))
    return table(bins, CONFIDENCE_BINS), table(errors, CONFIDENCE_ERRORS)


def _measures(answers: list[pd.DataFrame]) -> dict:
    """Calibration error and AUROC by whole answer and per token: mean over a condition's models, and spread."""
    columns: dict = {}
    for score, ending in (("confidence", ""), ("per_token", "_per_token")):
        pairs = [(one[score].to_numpy(), one["correct"].to_numpy()) for one in answers]
        areas = [area for pair in pairs if not np.isnan(area := auroc(*pair))]
        gaps = [calibration_error(*pair, BINS) for pair in pairs]
        for name, values in (("error", gaps), ("auroc", areas)):
            columns[f"{name}{ending}"] = known(float(np.mean(values))) if values else None
            columns[f"{name}{ending}_spread"] = spread(values)
    return columns


def _read(path: Path, rule: str, wanted: set[Answerer]) -> dict[tuple, pd.DataFrame]:
    """(model, set) to the probability of every answer, as a whole and per token, and whether it is right."""
    columns = [*Answerer._fields, "set", rule, "answer_logprob", "answer_tokens"]
    some = ds.field("run").isin(pa.array([key.run for key in wanted], pa.string())) & ds.field("set").isin(list(TESTS))
    rows = ds.dataset(path).to_table(columns=columns, filter=some).to_pandas()
    rows = rows.assign(
        per_token=np.exp(rows["answer_logprob"].astype(np.float64)),
        confidence=np.exp(rows["answer_logprob"].astype(np.float64) * rows["answer_tokens"]),
        correct=rows[rule].astype(bool),
    )
    found = {}
    for key, mine in rows.groupby([*Answerer._fields, "set"], dropna=False, sort=False):
        named = tuple(None if pd.isna(value) else value for value in key)
        if named[:4] in wanted:  # a named tuple equals the plain one
            found[named] = mine[["confidence", "per_token", "correct"]]
    return found
