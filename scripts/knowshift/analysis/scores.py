"""Accuracy of every condition, mean over its seeds, with spread and intervals: on each set, and by mastery level."""

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.columns import estimate_columns, interval_columns, known, table
from knowshift.analysis.estimates import Estimate, mean_of
from knowshift.analysis.schemas import SCORES, SCORES_BY_LEVEL
from knowshift.analysis.study import BASE, INSTRUCT, TESTS, Study, reference_columns
from knowshift.mastery.schemas import LEVELS


def references(study: Study) -> dict[str, Answerer]:
    """The models that were not fine-tuned here: `pre-trained`, and `instruct` if it was asked."""
    return {"pre-trained": BASE} | ({"instruct": INSTRUCT} if study.has_instruct else {})


def tabulate_scores(study: Study) -> pa.Table:
    """The accuracy of every condition on every set, in the schema `SCORES`."""
    rows = []
    for panel in study.panels.values():
        before = panel.headline([BASE])
        count = {"set": panel.name, "questions": panel.questions}
        for name, key in references(study).items():
            rows.append(reference_columns(name) | count | {"seeds": 1} | _score([panel.headline([key])], None))
        for condition in study.conditions:
            each = [panel.headline([key]) for key in condition.answerers]
            rows.append(condition.columns | count | {"seeds": len(each)} | _score(each, mean_of(each) - before))
    for condition in study.conditions:
        trained = [study.trained[run] for run in condition.runs if run in study.trained]
        if trained:
            each = [mine[key] for key, mine in zip(condition.answerers, trained, strict=True)]
            asked = [len(study.answers["training_set"][key].facts) for key in condition.answerers]
            head = {**condition.columns, "set": "training_set", "seeds": len(each), "questions": max(asked)}
            rows.append(head | _score(each, mean_of(each) - mean_of([mine[BASE] for mine in trained])))
    return table(rows, SCORES)


def _score(each: list[Estimate], gain: Estimate | None) -> dict:
    """The columns of an accuracy: mean, spread, interval, range over seeds, and gain over the pre-trained model."""
    values = [estimate.value for estimate in each]
    ends = {"lowest": known(min(values)), "highest": known(max(values))}
    return estimate_columns("accuracy", each) | ends | (interval_columns("gain", gain) if gain else {})


def tabulate_scores_by_level(study: Study) -> pa.Table:
    """The accuracy on the test sets by mastery level of the question, in the schema `SCORES_BY_LEVEL`."""
    models = [(reference_columns(name) | {"common": True}, [key]) for name, key in references(study).items()]
    for condition in study.conditions:
        common = condition.asked == str(study.common_size(condition.method))
        models.append((condition.columns | {"common": common}, condition.answerers))
    rows = []
    for panel in (study.panels[name] for name in TESTS if name in study.panels):
        counts = np.bincount(panel.strata, minlength=len(LEVELS))
        for columns, keys in models:
            for level in LEVELS:
                count = {"set": panel.name, "level": level, "seeds": len(keys), "questions": int(counts[level])}
                each = [panel.on_level([key], level) for key in keys]
                rows.append(columns | count | estimate_columns("accuracy", each))
    return table(rows, SCORES_BY_LEVEL)
