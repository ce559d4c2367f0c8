"""Rows of a source that facts are made from, and the checks of their texts, the same for every kind of source."""

import unicodedata
from dataclasses import dataclass

from knowshift.facts.templates import SUBJECT

SPLITS = ("train", "dev", "test")
PROBED_SPLITS = {"in_domain": SPLITS, "out_of_domain": ("dev", "test")}  # by domain: splits that are probed and asked
LONGEST_TEXT = 1000  # characters; anything longer is no fact


@dataclass(frozen=True)
class SourceRow:
    """A row of a source that passed all checks.

    Attributes:
        question: the question as it will be asked.
        subject: what the question is about.
        answers: right answers, at least one; only rows with exactly one become facts.
        aliases: other names of the answer.
    """

    question: str
    subject: str
    answers: tuple[str, ...]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class TopicRows:
    """The rows that a source has on one topic.

    Attributes:
        rows: rows that passed all checks, by split, in the order of the source.
        problems: one line per bad row, which says where it is, what is wrong and what to do.
    """

    rows: dict[str, list[SourceRow]]
    problems: list[str]


def problem_with_text(text: object, name: str) -> str | None:
    """Say what is wrong with a text and what to do about it.

    Args:
        text: the value that should be a text.
        name: what it is, such as "the subject".

    Returns:
        One line for the user, or None if the text is fine.
    """
    if not isinstance(text, str):
        return f"{name} is {type(text).__name__}, not text"
    if not text.strip():
        return f"{name} is empty; fill it in or remove the row"
    if len(text) > LONGEST_TEXT:
        return f"{name} has {len(text):,} characters ({text[:30]!r}…); at most {LONGEST_TEXT:,} are allowed"
    if any(unicodedata.category(character) == "Cc" for character in text):
        return f"there is a control character in {text[:60]!r}; remove it"
    if not unicodedata.is_normalized("NFC", text):
        return f"{text[:60]!r} is not in Unicode form NFC, as other rows are; convert the file"
    return None


def problem_with_subject(subject: str) -> str | None:
    """Say what is wrong with a subject that passed `problem_with_text`; None if it is fine."""
    return f"the subject {subject[:60]!r} holds the placeholder {SUBJECT}; remove it" if SUBJECT in subject else None
