"""Questions of a user's own with their answers, in a file, asked of any model and graded at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from knowshift.allowed_values import Writing
from knowshift.evaluation.grading import grade_output
from knowshift.evaluation.schemas import GRADED_OUTCOMES
from knowshift.facts.texts import problem_with_encoding, tidy
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.json_files import parse_json
from knowshift.runtime.parquet import read_table
from knowshift.runtime.user_files import read_text

FORM = '{"question": "…", "answers": ["…"]} with an answer'
GRADES = ("whole_words", "substring", "exact")


def read_question_file(path: Path) -> list[dict[str, Any]]:
    """Read questions with their answers, a JSON object per line.

    Raises:
        KnowshiftError: the file is missing or empty, or a line is no such object; names the first one.
    """
    rows = []
    for number, line in enumerate(read_text(path, " does not exist; it should hold the questions").split("\n"), 1):
        if not line.strip():
            continue
        location = f"{path}, line {number}"
        row = parse_json(line, location, f"it must hold {FORM}")
        if not _is_question(row):
            raise KnowshiftError(f"{location}: must be {FORM}")
        for text in (row["question"], *row["answers"]):
            if problem := problem_with_encoding(text):
                raise KnowshiftError(f"{location}: {problem}")
        rows.append({**row, "answers": [tidy(answer) for answer in row["answers"]]})
    if not rows:
        raise KnowshiftError(f"{path} is empty; it should hold the questions")
    return rows


def _is_question(row: Any) -> bool:
    """Tell whether a row is a question with at least one answer, none of them blank."""
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not row["question"].strip():
        return False
    answers = row.get("answers")
    if not isinstance(answers, list) or not answers:
        return False
    return all(isinstance(answer, str) and tidy(answer) for answer in answers)


def as_questions(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Return the table that `answering.answer_questions` takes, with the row's position as the fact's id."""
    return pa.table(
        {
            "fact_id": [str(position) for position in range(len(rows))],
            "set": ["questions"] * len(rows),
            "question": [row["question"] for row in rows],
            "object": [row["answers"][0] for row in rows],
        }
    )


def grade_outcomes(outcomes: pa.Table, rows: Sequence[dict[str, Any]], writings: Sequence[Writing] = ()) -> pa.Table:
    """Grade outcomes against the answers of the rows that they belong to, in the schema `GRADED_OUTCOMES`."""
    table = outcomes.to_pylist()
    for outcome in table:
        row = rows[int(outcome["fact_id"])]
        outcome |= {"question": row["question"], "answers": row["answers"]}
        outcome |= grade_output(outcome["output"], row["answers"], writings)
    return pa.Table.from_pylist(table, schema=GRADED_OUTCOMES)


def describe_grades(path: Path) -> str:
    """Say in one line which share of the questions of a graded table was answered correctly, by each way of grading."""
    table = read_table(path, GRADED_OUTCOMES, list(GRADES))
    correct = {name: sum(table[name].to_pylist()) for name in GRADES}
    shares = ", ".join(f"{name} {100 * number / len(table):.1f} %" for name, number in correct.items())
    return f"{len(table)} questions, answered right: {shares}"
