"""Reads raw question files in the form of EntityQuestions, and says what is wrong with bad rows."""

import json
from pathlib import Path
from typing import Any

from knowshift.facts.source_rows import SPLITS, SourceRow, TopicRows, problem_with_subject, problem_with_text
from knowshift.facts.templates import TopicTemplates
from knowshift.runtime.errors import KnowshiftError


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
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise KnowshiftError(f"{path} does not exist; put the raw questions of this topic and split there") from None
    except IsADirectoryError:
        raise KnowshiftError(f"{path} is a folder; it must be a JSON file") from None
    except UnicodeDecodeError as error:
        raise KnowshiftError(f"{path}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from None
    except json.JSONDecodeError as error:
        what = "empty" if not error.doc.strip() else f"not valid JSON ({error})"
        raise KnowshiftError(
            f"{path}: {what}; it must hold a list of objects with the keys question and answers"
        ) from None
    if not isinstance(rows, list):
        raise KnowshiftError(f"{path}: must be a JSON list of objects with the keys question and answers")
    good, problems = [], []
    for number, row in enumerate(rows, 1):
        if problem := _problem(row, templates):
            problems.append(f"{path}, row {number}: {problem}")
        elif subject := templates.subject_of(row["question"]):  # a good row has one
            good.append(SourceRow(row["question"], subject, tuple(row["answers"])))
    return good, problems


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
