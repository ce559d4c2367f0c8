"""Reading raw question files: each row is checked, and what is wrong with it is said with file, row and remedy."""

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowshift.errors import KnowshiftError
from knowshift.templates import SUBJECT, TopicTemplates

LONGEST = 1000  # characters of a question or an answer; anything longer is no fact


@dataclass(frozen=True)
class Row:
    """A good row.

    Attributes:
        question: as it stands in the file.
        subject: the question less its template.
        answers: at least one.
    """

    question: str
    subject: str
    answers: tuple[str, ...]


def raw_path(root: Path, topic: str, split: str) -> Path:
    """Where a raw file lies: `{split}/{topic}.{split}.json`."""
    return root / split / f"{topic}.{split}.json"


def read_raw(path: Path, templates: TopicTemplates) -> tuple[list[Row], list[str]]:
    """Read one raw file.

    Returns:
        The good rows in the order of the file, and a line for every bad one: file, row, what is wrong, what to do.

    Raises:
        KnowshiftError: the file as a whole cannot be read.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise KnowshiftError(f"{path} does not exist; put the raw questions of this topic and split there") from None
    except IsADirectoryError:
        raise KnowshiftError(f"{path} is a folder; a JSON file should stand there") from None
    except UnicodeDecodeError as error:
        raise KnowshiftError(f"{path}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from None
    except json.JSONDecodeError as error:
        what = "empty" if not error.doc.strip() else f"not valid JSON ({error})"
        raise KnowshiftError(
            f"{path}: {what}; it must hold a list of objects with the keys question and answers"
        ) from None
    if not isinstance(rows, list):
        raise KnowshiftError(f"{path}: must be a JSON list of objects with the keys question and answers")
    good, bad = [], []
    for number, row in enumerate(rows, 1):
        if problem := _problem(row, templates):
            bad.append(f"{path}, row {number}: {problem}")
        else:
            good.append(Row(row["question"], templates.subject_of(row["question"]), tuple(row["answers"])))
    return good, bad


def _problem(row: Any, templates: TopicTemplates) -> str | None:
    """What is wrong with a row and what to do, or None."""
    if not isinstance(row, dict):
        return f"is {type(row).__name__}, not an object with the keys question and answers"
    for key, kind in (("question", str), ("answers", list)):
        if key not in row:
            return f"has no {key}; add the key"
        if not isinstance(row[key], kind):
            return f"{key} is {type(row[key]).__name__}, not {'text' if kind is str else 'a list of texts'}"
    if not row["answers"]:
        return "answers is empty; give at least one answer or remove the row"
    for text in (row["question"], *row["answers"]):
        if not isinstance(text, str):
            return f"an answer is {type(text).__name__}, not text"
        if not text.strip():
            return "the question or an answer is empty; fill it in or remove the row"
        if len(text) > LONGEST:
            return f"a text of {len(text):,} characters ({text[:30]!r}…); at most {LONGEST:,} are allowed"
        if any(unicodedata.category(character) == "Cc" for character in text):
            return f"a control character in {text[:60]!r}; remove it"
        if not unicodedata.is_normalized("NFC", text):
            return f"{text[:60]!r} is not in Unicode form NFC, as other rows are; convert the file"
    subject = templates.subject_of(row["question"])
    if subject is None or not subject.strip():
        return f"{row['question'][:80]!r} does not fit the question {templates.question!r}; mend one of them"
    if SUBJECT in subject:
        return f"the subject {subject[:60]!r} holds the placeholder {SUBJECT}; remove it"
    return None
