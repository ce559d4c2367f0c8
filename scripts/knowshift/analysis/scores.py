"""Accuracy with its spread and its intervals: of cells, by level, and beside divergence."""

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.columns import estimate_columns, interval_columns, known, table
from knowshift.analysis.estimates import Estimate, mean_of
from knowshift.analysis.schemas import SCORES, SCORES_BY_LEVEL
from knowshift.analysis.study import BASE, INSTRUCT, TESTS, Cell, Study
from knowshift.mastery.schemas import LEVELS


def reference_cells(study: Study) -> list[tuple[Cell, list[Answerer]]]:
    """The models that were not fine-tuned here."""
    instruct = [(Cell("instruct"), [INSTRUCT])] if study.has_instruct else []
    return [(Cell("pre-trained"), [BASE]), *instruct]


def tabulate_scores(study: Study) -> pa.Table:
    """Accuracy of every cell on every set, in the schema `SCORES`."""
    rows = []
    everyone = [*reference_cells(study), *((cell, cell.answerers) for cell in study.cells)]
    for panel in study.panels.values():
        before = panel.headline([BASE])
        for cell, keys in everyone:
            each = [panel.headline([key]) for key in keys]
            head = {**cell.columns, "set": panel.name, "seeds": len(keys), "questions": panel.questions}
            rows.append(head | _score(each, mean_of(each) - before if cell.runs else None))
    for cell in study.cells:
        trained = [study.trained[run] for run in cell.runs if run in study.trained]
        if trained:
            each = [mine[Answerer(run)] for run, mine in zip(cell.runs, trained, strict=True)]
            asked = [len(study.answers["training_set"][Answerer(run)].facts) for run in cell.runs]
            head = {**cell.columns, "set": "training_set", "seeds": len(each), "questions": max(asked)}
            rows.append(head | _score(each, mean_of(each) - mean_of([mine[BASE] for mine in trained])))
    return table(rows, SCORES)


def _score(each: list[Estimate], gain: Estimate | None) -> dict:
    values = [estimate.value for estimate in each]
    ends = {"lowest": known(min(values)), "highest": known(max(values))}
    return estimate_columns("accuracy", each) | ends | (interval_columns("gain", gain) if gain else {})


def tabulate_scores_by_level(study: Study) -> pa.Table:
    """Accuracy by mastery level of the question on the test sets, in the schema `SCORES_BY_LEVEL`."""
    rows = []
    everyone = [*reference_cells(study), *((cell, cell.answerers) for cell in study.cells)]
    for panel in (study.panels[name] for name in TESTS if name in study.panels):
        counts = np.bincount(panel.strata, minlength=len(LEVELS))
        for cell, keys in everyone:
            common = not cell.runs or (cell.asked == str(study.common_size(cell.method)))
            for level in LEVELS:
                head = {**cell.columns, "common": common, "set": panel.name, "level": level}
                each = [panel.on_level([key], level) for key in keys]
                count = {"seeds": len(keys), "questions": int(counts[level])}
                rows.append(head | count | estimate_columns("accuracy", each))
    return table(rows, SCORES_BY_LEVEL)
