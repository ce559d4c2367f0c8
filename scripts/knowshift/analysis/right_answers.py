"""How the probability of the right answer agrees with the share of questions that are answered.

This is not calibration, which is about the probability of the answer that is given: see `confidence.py`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.columns import spread, table
from knowshift.analysis.estimates import calibration_bins, calibration_error
from knowshift.analysis.recommendation import chosen_restoration
from knowshift.analysis.schemas import RIGHT_ANSWER_BINS, RIGHT_ANSWER_GAPS
from knowshift.analysis.study import BASE, TESTS, Study, reference_columns

BINS = 10  # of equal width over the probability


def tabulate_right_answers(study: Study) -> tuple[pa.Table, pa.Table]:
    """Compare probability and answers by bin and overall: schemas `RIGHT_ANSWER_BINS` and `RIGHT_ANSWER_GAPS`."""
    bins, gaps = [], []
    for head, keys in list_states(study):
        for panel in (study.panels[name] for name in TESTS if name in study.panels):
            columns = [panel.columns[key] for key in keys]
            probability = np.exp(panel.logprob[:, columns].astype(np.float64))  # (N, seeds)
            correct = panel.correct[:, columns]
            mine = head | {"set": panel.name}
            index = calibration_bins(probability, BINS)
            for bin_ in np.unique(index):
                here = index == bin_
                means = {"probability": probability[here].mean(), "accuracy": correct[here].mean()}
                bins.append(mine | {"bin": int(bin_), "questions": int(here.sum())} | means)
            each = [calibration_error(*pair, BINS) for pair in zip(probability.T, correct.T, strict=True)]
            gaps.append(
                mine
                | {"seeds": len(keys), "questions": panel.questions, "gap": np.mean(each), "spread": spread(each)}
                | {"probability": probability.mean(), "accuracy": correct.mean()}
            )
    return table(bins, RIGHT_ANSWER_BINS), table(gaps, RIGHT_ANSWER_GAPS)


def list_states(study: Study) -> Iterator[tuple[dict, Sequence[Answerer]]]:
    """What is shown: columns and models, before, after and restored.

    Conditions are those of `Study.shown`, and restored by the share that is best on dev.
    """
    yield {"state": "before", **reference_columns("pre-trained")}, [BASE]
    for condition in study.shown:
        yield {"state": "after", **condition.columns}, condition.answerers
        if share := chosen_restoration(study, condition):
            yield {"state": "restored", **share.columns}, share.answerers
