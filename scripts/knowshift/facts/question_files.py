"""Reads raw question files in the form of EntityQuestions, and says what is wrong with bad rows."""

from pathlib import Path
from typing import Any

from knowshift.facts.source_rows import SPLITS, SourceRow, TopicRows, problem_with_subject
from knowshift.facts.templates import TopicTemplates
from knowshift.facts.texts import problem_with_text, tidy
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.json_files import parse_json
from knowshift.runtime.user_files import read_text

FORM = "a list of objects with the keys question and answers"


def read_question_files(root: Path, templates: TopicTemplates) -> TopicRows:
    """Read the question files `{split}/{topic}.{split}.json` of one topic.

    Args:
        root: the folder with train/, dev/ and test/.
        templates: templates of the topic.

    Raises:
        KnowshiftError: a file cannot be read as a whole.
    """
    rows, problems = {}, []
    for split in SPLITS:
        path = root / split / f"{templates.topic}.{split}.json"
        rows[split], found = _read(path, templates)
        problems += found
    return TopicRows(rows, problems)


def _read(path: Path, templates: TopicTemplates) -> tuple[list[SourceRow], list[str]]:
    """Read one file: its good rows, and a line for each bad one."""
    text = read_text(path, " does not exist; put the raw questions of this topic and split there")
    rows = parse_json(text, str(path), f"it must hold {FORM}")
    if not isinstance(rows, list):
        raise KnowshiftError(f"{path}: must hold {FORM}")
    good, problems = [], []
    for number, row in enumerate(map(_tidied, rows), 1):
        if problem := _problem(row, templates):
            problems.append(f"{path}, row {number}: {problem}")
        elif subject := tidy(templates.subject_of(row["question"]) or ""):  # a good row has one
            good.append(SourceRow(templates.ask(subject), subject, tuple(row["answers"])))
    return good, problems


def _tidied(row: Any) -> Any:
    """Tidy the texts of a row, as far as it has the right form."""
    if not isinstance(row, dict):
        return row
    kept = {key: tidy(value) if isinstance(value, str) else value for key, value in row.items()}
    if isinstance(answers := kept.get("answers"), list):
        kept["answers"] = [tidy(answer) if isinstance(answer, str) else answer for answer in answers]
    return kept


def _problem(row: Any, templates: TopicTemplates) -> str | None:
    """Say what is wrong with a row and what to do about it; None if it is fine."""
    if not isinstance(row, dict):
        return f"is {type(row).__name__}, not an object with the keys question and answers"
    for key, kind in (("question", str), ("answers", list)):
        if key not in row:
            return f"has no {key}; add the key"
        if not isinstance(row[key], kind):
            return f"{key} is {type(row[key]).__name__}, not {'text' if kind is str else 'a list of texts'}"
    if not row["answers"]:
        return "answers is empty; give at least one answer or remove the row"
    texts = [(row["question"], "the question"), *((answer, "an answer") for answer in row["answers"])]
    if problem := next(filter(None, (problem_with_text(text, name) for text, name in texts)), None):
        return problem
    subject = templates.subject_of(row["question"])
    if subject is None or not subject.strip():
        return f"{row['question'][:80]!r} does not fit the question {templates.question!r}; correct one of them"
    return problem_with_subject(subject)
