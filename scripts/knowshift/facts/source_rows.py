"""A row that a fact may come from, and what makes its texts unusable; the same for every kind of source."""

import unicodedata
from dataclasses import dataclass

from knowshift.facts.templates import SUBJECT

SPLITS = ("train", "dev", "test")
LONGEST = 1000  # characters of a text; anything longer is no fact


@dataclass(frozen=True)
class Row:
    """A good row.

    Attributes:
        question: as it will be asked.
        subject: what the question is about.
        answers: right answers, at least one; only rows with exactly one are facts.
        aliases: other names of the answer.
    """

    question: str
    subject: str
    answers: tuple[str, ...]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What a source has on one topic.

    Attributes:
        rows: split to good rows, in their order.
        bad: a line per bad row: where it stands, what is wrong, what to do.
    """

    rows: dict[str, list[Row]]
    bad: list[str]


def problem_with_text(text: object, what: str) -> str | None:
    """What is wrong with a text and what to do, or None."""
    if not isinstance(text, str):
        return f"{what} is {type(text).__name__}, not text"
    if not text.strip():
        return f"{what} is empty; fill it in or remove the row"
    if len(text) > LONGEST:
        return f"{what} has {len(text):,} characters ({text[:30]!r}…); at most {LONGEST:,} are allowed"
    if any(unicodedata.category(character) == "Cc" for character in text):
        return f"a control character in {text[:60]!r}; remove it"
    if not unicodedata.is_normalized("NFC", text):
        return f"{text[:60]!r} is not in Unicode form NFC, as other rows are; convert the file"
    return None


def problem_with_subject(subject: str) -> str | None:
    """What is wrong with a subject that is text already, or None."""
    return f"the subject {subject[:60]!r} holds the placeholder {SUBJECT}; remove it" if SUBJECT in subject else None
