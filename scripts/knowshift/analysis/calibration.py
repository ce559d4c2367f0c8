"""Where restored parameters lie, how loss fell, and how probability and answers agree."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.columns import spread, table
from knowshift.analysis.estimates import calibration_bins, calibration_error
from knowshift.analysis.recommendation import chosen_restoration
from knowshift.analysis.schemas import (
    CALIBRATION,
    CALIBRATION_ERRORS,
)
from knowshift.analysis.study import BASE, TESTS, Condition, Study

BINS = 10  # of probability


def tabulate_calibration(study: Study) -> tuple[pa.Table, pa.Table]:
    """Probability of the right answer against the share answered, in the schemas `CALIBRATION` and `CALIBRATION_ERRORS`.

    Of every method and data kind the largest common size; restored by the share chosen on dev.
    """
    bins, errors = [], []
    for head, keys in _states(study):
        for panel in (study.panels[name] for name in TESTS if name in study.panels):
            columns = [panel.columns[key] for key in keys]
            probability = np.exp(panel.logprob[:, columns].astype(np.float64))  # (N, seeds)
            correct = panel.correct[:, columns]
            mine = head | {"set": panel.name}
            place = calibration_bins(probability, BINS)
            for bin_ in np.unique(place):
                here = place == bin_
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
    yield {"state": "before", **Condition("pre-trained").columns}, [BASE]
    for method, kinds in study.kinds.items():
        for condition in (condition for data in kinds for condition in study.largest(method, data)):
            yield {"state": "after", **condition.columns}, condition.answerers
            if share := chosen_restoration(study, condition):
                yield {"state": "restored", **share.columns}, share.answerers
