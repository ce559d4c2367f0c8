"""Questions of a user's own with their answers, in a file, asked of any model and graded at once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from knowshift.evaluation.grading import grade_output
from knowshift.evaluation.schemas import GRADED_OUTCOMES
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_table

GRADES = ("whole_words", "substring", "exact")


def read_question_file(path: Path) -> list[dict[str, Any]]:
    """Read questions with their answers, a JSON object per line.

    Raises:
        KnowshiftError: the file is missing or empty, or a line is no such object; names the first one.
    """
    rows = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise KnowshiftError(f"{path} does not exist; it should hold the questions") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            answers = row["answers"]
            whole = isinstance(row["question"], str) and isinstance(answers, list) and answers
            whole = whole and all(isinstance(answer, str) and answer.strip() for answer in answers)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise KnowshiftError(f'{path}, line {number}: must be {{"question": "…", "answers": ["…"]}} with an answer')
        rows.append(row)
    if not rows:
        raise KnowshiftError(f"{path} is empty; it should hold the questions")
    return rows


def as_questions(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Return the table that `answering.score` takes, with the row's position as the fact's id."""
    return pa.table(
        {
            "fact_id": [str(position) for position in range(len(rows))],
            "set": ["questions"] * len(rows),
            "question": [row["question"] for row in rows],
            "object": [row["answers"][0] for row in rows],
        }
    )


def grade_outcomes(outcomes: pa.Table, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Grade outcomes against the answers of the rows that they belong to, in the schema `GRADED_OUTCOMES`."""
    table = outcomes.to_pylist()
    for outcome in table:
        row = rows[int(outcome["fact_id"])]
        outcome |= {"question": row["question"], "answers": row["answers"]}
        outcome |= grade_output(outcome["output"], row["answers"])
    return pa.Table.from_pylist(table, schema=GRADED_OUTCOMES)


def describe_grades(path: Path) -> str:
    """Say in one line which share of the questions of a graded table was answered correctly, by each way of grading."""
    table = read_table(path, GRADED_OUTCOMES, list(GRADES))
    shares = ", ".join(f"{name} {100 * pc.mean(table[name]).as_py():.1f} %" for name in GRADES)
    return f"{len(table)} questions, answered right: {shares}"
