"""Accuracy of every condition, mean over its seeds, with spread and intervals: on each set, and by mastery level."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.columns import estimate_columns, interval_columns, known, table
from knowshift.analysis.estimates import Estimate, mean_of
from knowshift.analysis.schemas import SCORES, SCORES_BY_LEVEL
from knowshift.analysis.study import BASE, FEW_SHOT, INSTRUCT, MOST_FREQUENT, TESTS, Study, reference_columns
from knowshift.analysis.topic_weights import standardise
from knowshift.mastery.schemas import LEVELS


def references(study: Study) -> dict[str, Answerer]:
    """What answered without fine-tuning here, by the name that tables give it in the column `method`.

    It is the pre-trained model; and, where they were asked, the same with examples before the question, the most
    frequent training object of the question's topic (no model at all), and the vendor's chat model.
    """
    named = {"pre-trained": BASE, "few-shot": FEW_SHOT, "most frequent object": MOST_FREQUENT, "instruct": INSTRUCT}
    return {name: key for name, key in named.items() if key in study.panels["test"]}


def tabulate_scores(study: Study, topics: np.ndarray) -> pa.Table:
    """The accuracy of every condition on every set, in the schema `SCORES`.

    Args:
        study: The study.
        topics: (F,) the topic of every fact of the mastery table.
    """
    rows = []
    for panel in study.panels.values():
        before = panel.headline([BASE])
        standardised = standardise(panel, topics, study.rng("standardise", panel.name))

        def by_topic(keys: Sequence[Answerer], panel: Panel = panel, of: list[Estimate] = standardised) -> dict:
            return interval_columns("standardised", mean_of([of[panel.columns[key]] for key in keys]))

        count = {"set": panel.name, "questions": panel.questions}
        for name, key in references(study).items():
            if key in panel:
                each = [panel.headline([key])]
                rows.append(reference_columns(name) | count | {"seeds": 1} | _score(each, None) | by_topic([key]))
        for condition in study.conditions:
            each = [panel.headline([key]) for key in condition.answerers]
            score = _score(each, mean_of(each) - before) | by_topic(condition.answerers)
            rows.append(condition.columns | count | {"seeds": len(each)} | score)
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
        common = condition.elsewhere or condition.asked == str(study.common_size(condition.method))
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
