"""Calibration: how well the probability of the right answer agrees with the share of questions that are answered."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.columns import spread, table
from knowshift.analysis.estimates import calibration_bins, calibration_error
from knowshift.analysis.recommendation import chosen_restoration
from knowshift.analysis.schemas import CALIBRATION, CALIBRATION_ERRORS
from knowshift.analysis.study import BASE, TESTS, Study, reference_columns

BINS = 10  # of equal width over the probability


def tabulate_calibration(study: Study) -> tuple[pa.Table, pa.Table]:
    """Compare probability and answers by bin and overall, in the schemas `CALIBRATION` and `CALIBRATION_ERRORS`.

    Every method and data kind is shown at its largest common size, and restored by the share that is best on dev.
    """
    bins, errors = [], []
    for head, keys in _states(study):
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
            errors.append(
                mine
                | {"seeds": len(keys), "questions": panel.questions, "error": np.mean(each), "spread": spread(each)}
                | {"probability": probability.mean(), "accuracy": correct.mean()}
            )
    return table(bins, CALIBRATION), table(errors, CALIBRATION_ERRORS)


def _states(study: Study) -> Iterator[tuple[dict, Sequence[Answerer]]]:
    """Pairs of columns and models: before, after and restored."""
    yield {"state": "before", **reference_columns("pre-trained")}, [BASE]
    for method, kinds in study.kinds.items():
        for condition in (condition for data in kinds for condition in study.largest(method, data)):
            yield {"state": "after", **condition.columns}, condition.answerers
            if share := chosen_restoration(study, condition):
                yield {"state": "restored", **share.columns}, share.answerers
