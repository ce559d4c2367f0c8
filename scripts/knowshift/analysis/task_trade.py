"""The trade between knowledge and tasks: what each restored model of a cell knows, and how well it does each task."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.columns import interval_columns, known, table
from knowshift.analysis.estimates import Estimate
from knowshift.analysis.recommendation import Candidate, candidates_of, decide
from knowshift.analysis.study import BASE, FEW_SHOT, Condition, Study, reference_columns
from knowshift.analysis.task_schemas import TASK_TRADE
from knowshift.analysis.task_scores import TaskScores


def tabulate_trade(study: Study) -> pa.Table:
    """Compare knowledge and scores of the models of every cell, in the schema `TASK_TRADE`."""
    rows = []
    # What is recommended of a cell keeps all tasks, so it is the same in the rows of each.
    decided = [(one, decide(study, candidates_of(study, one))) for one in study.conditions] if study.tasks else []
    for task in study.tasks:
        rows.append(_of_base(study, task))
        for condition, decision in decided:
            rows += _of_condition(study, task, condition, decision and decision[1])
    return table(rows, TASK_TRADE)


def _of_base(study: Study, task: TaskScores) -> dict:
    """The row of the pre-trained model; after examples where models tuned elsewhere are compared with that."""
    elsewhere = any(condition.elsewhere for condition in study.conditions)
    test = study.panels["test"]
    key, name = (FEW_SHOT, "few-shot") if elsewhere and FEW_SHOT in test else (BASE, "pre-trained")
    dev = study.panels.get("dev")
    on_dev = known(dev.known_level_mean([key])) if dev and key in dev else None
    return {
        **reference_columns(name),
        **_scored(task, [BASE]),
        "seeds": 1,
        "knowledge_dev": on_dev,
        **interval_columns("knowledge", _knowledge(test, [key])),
        "chosen": False,
    }


def _of_condition(study: Study, task: TaskScores, condition: Condition, taken: Candidate | None) -> list[dict]:
    """The rows of a cell: with nothing restored, and of each restored model; one of them may be recommended."""
    own = [one for one in study.restorations if one.condition == condition and one.percent]
    models = [Candidate(condition), *(Candidate(condition, one) for one in own)]
    test, dev = study.panels["test"], study.panels.get("dev")
    rows = []
    for model in models:
        keys = model.answerers
        plain = [Answerer(key.run) for key in keys]
        restored = {"strategy": None, "region": None, "percent": None}
        rows.append(
            {
                **condition.columns,
                **(model.restored_columns if model.restoration else restored),
                **_scored(task, keys),
                "seeds": len(keys),
                "change_dev": task.halves["dev"].change(keys).value,
                "keeps": task.keeps(keys),
                **interval_columns("change", task.halves["test"].change(keys)),
                "knowledge_dev": known(dev.known_level_mean(keys)) if dev else None,
                **interval_columns("knowledge", _knowledge(test, keys)),
                **interval_columns("knowledge_change", _knowledge(test, keys) - _knowledge(test, plain)),
                "chosen": taken == model,
            }
        )
    for row, best in zip(rows, on_frontier([(row["knowledge"], row["score"]) for row in rows]), strict=True):
        row["frontier"] = best
    return rows


def _scored(task: TaskScores, keys: Sequence[Answerer]) -> dict:
    """The columns of the task, and of the scores of some models on both halves."""
    dev, test = task.halves["dev"], task.halves["test"]
    return {
        "task": task.name,
        "metric": task.metric,
        "tolerance": task.tolerance,
        "examples_dev": dev.examples,
        "examples": test.examples,
        "score_dev": dev.score(keys).value,
        **interval_columns("score", test.score(keys)),
    }


def _knowledge(panel: Panel, keys: Sequence[Answerer]) -> Estimate:
    """The mean accuracy over the levels that have questions, mean over models."""
    columns = [panel.columns[key] for key in keys]
    present = np.unique(panel.strata)
    return Estimate(panel.known_level_mean(keys), panel.replicates[:, present][:, :, columns].mean((1, 2)))


def on_frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Tell of each of some points whether no other has as much of both coordinates, and more of one.

    Args:
        points: pairs of numbers, of each of which more is better.
    """
    return [not any(other != one and other[0] >= one[0] and other[1] >= one[1] for other in points) for one in points]
