"""Accuracy with its spread and its intervals: of cells, by level, and beside divergence."""

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.columns import estimate_columns, interval_columns, known, table
from knowshift.analysis.estimates import Estimate, mean_of
from knowshift.analysis.schemas import SCORES, SCORES_BY_LEVEL
from knowshift.analysis.study import BASE, INSTRUCT, TESTS, Condition, Study
from knowshift.mastery.schemas import LEVELS


def reference_conditions(study: Study) -> list[tuple[Condition, list[Answerer]]]:
    """The models that were not fine-tuned here."""
    instruct = [(Condition("instruct"), [INSTRUCT])] if study.has_instruct else []
    return [(Condition("pre-trained"), [BASE]), *instruct]


def tabulate_scores(study: Study) -> pa.Table:
    """Accuracy of every cell on every set, in the schema `SCORES`."""
    rows = []
    everyone = [*reference_conditions(study), *((condition, condition.answerers) for condition in study.conditions)]
    for panel in study.panels.values():
        before = panel.headline([BASE])
        for condition, keys in everyone:
            each = [panel.headline([key]) for key in keys]
            head = {**condition.columns, "set": panel.name, "seeds": len(keys), "questions": panel.questions}
            rows.append(head | _score(each, mean_of(each) - before if condition.runs else None))
    for condition in study.conditions:
        trained = [study.trained[run] for run in condition.runs if run in study.trained]
        if trained:
            each = [mine[Answerer(run)] for run, mine in zip(condition.runs, trained, strict=True)]
            asked = [len(study.answers["training_set"][Answerer(run)].facts) for run in condition.runs]
            head = {**condition.columns, "set": "training_set", "seeds": len(each), "questions": max(asked)}
            rows.append(head | _score(each, mean_of(each) - mean_of([mine[BASE] for mine in trained])))
    return table(rows, SCORES)


def _score(each: list[Estimate], gain: Estimate | None) -> dict:
    values = [estimate.value for estimate in each]
    ends = {"lowest": known(min(values)), "highest": known(max(values))}
    return estimate_columns("accuracy", each) | ends | (interval_columns("gain", gain) if gain else {})


def tabulate_scores_by_level(study: Study) -> pa.Table:
    """Accuracy by mastery level of the question on the test sets, in the schema `SCORES_BY_LEVEL`."""
    rows = []
    everyone = [*reference_conditions(study), *((condition, condition.answerers) for condition in study.conditions)]
    for panel in (study.panels[name] for name in TESTS if name in study.panels):
        counts = np.bincount(panel.strata, minlength=len(LEVELS))
        for condition, keys in everyone:
            common = not condition.runs or (condition.asked == str(study.common_size(condition.method)))
            for level in LEVELS:
                head = {**condition.columns, "common": common, "set": panel.name, "level": level}
                each = [panel.on_level([key], level) for key in keys]
                count = {"seeds": len(keys), "questions": int(counts[level])}
                rows.append(head | count | estimate_columns("accuracy", each))
    return table(rows, SCORES_BY_LEVEL)
