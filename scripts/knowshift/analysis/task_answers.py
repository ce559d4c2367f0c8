"""The answers of all models to the examples of tasks, scored; path and metadata of a file say whose answers it has."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.study import BASE
from knowshift.configuration.tasks import Metric
from knowshift.evaluation.grading import grade_output
from knowshift.evaluation.schemas import TASK_ANSWERS, TASK_OUTCOMES
from knowshift.runtime.parquet import read_table, table_metadata

GRADES = {
    "contains": "whole_words",
    "exact": "exact",
}  # metrics, and the rules of `evaluation/grading.py` that they are


def score(metric: Metric, row: Mapping[str, Any]) -> float:
    """Score an answer to an example: 1 or 0, or with loglikelihood the log-probability in nats.

    Args:
        metric: The metric.
        row: Of a table in the schema `TASK_OUTCOMES`.
    """
    if metric == "loglikelihood":
        return row["logprob"]
    return float(grade_output(row["output"], row["expected"])[GRADES[metric]])


def grade_tasks(paths: Sequence[Path], metrics: Mapping[str, Metric]) -> pa.Table:
    """Score answers, in the schema `TASK_ANSWERS`.

    Args:
        paths: `base_evaluation/tasks/TASK.parquet`, `runs/RUN/tasks/TASK.parquet` and, of restored models,
            `runs/RUN/restored/STRATEGY-REGION-PERCENT.TASK.task.parquet`, each with its task in its metadata.
        metrics: Task to metric.
    """
    tables = [TASK_ANSWERS.empty_table()]
    for path in paths:
        answers = read_table(path, TASK_OUTCOMES)
        about = table_metadata(answers)
        folder = path.parent.parent.name
        key = BASE if folder == "base_evaluation" else Answerer(folder, *map(about.get, Answerer._fields[1:]))
        columns, metric = {**key._asdict(), "task": about["task"]}, metrics[about["task"]]
        rows = [{**columns, **row, "score": score(metric, row)} for row in answers.to_pylist()]
        tables.append(pa.Table.from_pylist(rows, schema=TASK_ANSWERS))
    return pa.concat_tables(tables)
