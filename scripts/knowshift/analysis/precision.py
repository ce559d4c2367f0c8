"""Restored models side by side in several number formats: a format that rounds small changes away restores nothing new.

Answers in the format of the evaluation are those of the study; those in further formats (`more_dtypes` of an entry
under restoration) are read by nothing but this table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer, Answers
from knowshift.analysis.columns import table
from knowshift.analysis.run_schemas import PRECISION
from knowshift.analysis.run_scores import AnswersBySet, score

Arm = tuple[str, Answerer]  # a number format, and the restored model that answered in it


def tabulate_precision(
    answers: AnswersBySet,
    arms: Mapping[Arm, Sequence[dict[str, Any]]],
    dtype: str,
    facts: Mapping[str, int],
    levels: np.ndarray,
    concentration: pa.Table,
) -> pa.Table:
    """Score restored models in every number format that they answered in, in the schema `PRECISION`.

    Args:
        answers: Set name to answerer to answers in the number format of the evaluation.
        arms: Further formats and restored models to graded answers, as `Grader.grade` gives them.
        dtype: The format of the evaluation.
        facts: Fact id to its row number in the mastery table.
        levels: (F,) the mastery level of every fact of the mastery table.
        concentration: The table of concentration, which knows what bfloat16 sees.

    Returns:
        Rows of those runs, strategies and regions that have further formats; the share of 0 % is the fine-tuned model.
    """
    scored: dict[Arm, dict[str, Answers]] = {}
    for _, key in arms:
        for name, given in answers.items():
            for asked in (Answerer(key.run), key):
                if asked in given:
                    own = key._replace(percent=asked.percent or 0.0)
                    scored.setdefault((dtype, own), {})[name] = given[asked]
    for arm, rows in arms.items():
        for name in dict.fromkeys(row["set"] for row in rows):
            mine = [row for row in rows if row["set"] == name]
            scored.setdefault(arm, {})[name] = Answers(
                np.array([facts[row["fact_id"]] for row in mine]),
                np.array([row["correct"] for row in mine], bool),
                np.array([row["gold_logprob"] for row in mine]),
            )
    known = {(row["run"], row["region"], row["percent"]): row for row in concentration.to_pylist()}
    visible = {key[:2]: row["visible_bfloat16"] for key, row in known.items()}
    found = []
    for (format_, key), sets in scored.items():
        start = {name: score(given, levels)["accuracy"] for name, given in scored[format_, _unrestored(key)].items()}
        seen = visible.get((key.run, key.region)) if format_ == "bfloat16" else 1.0 if format_ == "float32" else None
        undone = _undone(format_, key, known.get((key.run, key.region, key.percent)))
        for name, given in sets.items():
            columns = score(given, levels)
            both = columns["accuracy"] is not None and start.get(name) is not None
            gain = columns["accuracy"] - start[name] if both else None
            what = {**key._asdict(), "dtype": format_, "set": name, "gain": gain, "visible": seen, "undone": undone}
            found.append({**what, **columns})
    order = {name: number for number, name in enumerate(("float32", "bfloat16", "float16"))}
    found.sort(key=lambda row: (row["run"], row["strategy"], row["region"], order[row["dtype"]], row["percent"]))
    return table(found, PRECISION)


def _unrestored(key: Answerer) -> Answerer:
    """The same model with nothing restored."""
    return key._replace(percent=0.0)


def _undone(dtype: str, key: Answerer, row: dict[str, Any] | None) -> float | None:
    """The share of the changes that a format sees which a restoration undoes; None where that is not known.

    Args:
        dtype: The format.
        key: The restored model.
        row: Its row of the table of concentration, if it has one.
    """
    if key.percent in (0, 100):
        return float(key.percent == 100)
    if row is None or key.strategy != "top":
        return None
    return row.get({"float32": "changes_undone", "bfloat16": "changes_undone_bfloat16"}.get(dtype, ""))
