"""Rows of a source that facts are made from, the same for every kind of source."""

from dataclasses import dataclass

from knowshift.facts.templates import SUBJECT

SPLITS = ("train", "dev", "test")
PROBED_SPLITS = {"in_domain": SPLITS, "out_of_domain": ("dev", "test")}  # by domain: splits that are probed and asked


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


def problem_with_subject(subject: str) -> str | None:
    """Say what is wrong with a subject that passed `texts.problem_with_text`; None if it is fine."""
    return f"the subject {subject[:60]!r} holds the placeholder {SUBJECT}; remove it" if SUBJECT in subject else None
