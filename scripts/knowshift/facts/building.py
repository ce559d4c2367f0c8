"""Makes facts from the rows of a source.

A row becomes a fact if it has exactly one answer and no earlier row asks its question. On EntityQuestions this rule
gives the totals of Ye et al. 2025, section 3.1.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from knowshift.canonical import canonical_json
from knowshift.facts.schemas import FACTS
from knowshift.facts.source_rows import SPLITS, SourceRow, TopicRows
from knowshift.facts.templates import TopicTemplates
from knowshift.runtime.errors import KnowshiftError

LISTED_ROWS = 20  # bad rows that an error message names


def fact_id(topic: str, split: str, question: str, object_: str) -> str:
    """Hash a fact's content into a stable id of 16 hexadecimal digits."""
    content = canonical_json([topic, split, question, object_]).encode()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def distinct_facts(sources: Mapping[str, TopicRows], split: str) -> Iterator[tuple[str, SourceRow]]:
    """Yield the rows of a split that become facts, each with its topic.

    A row becomes a fact if it has exactly one answer and no earlier row asks its question, in the order of `sources`
    and then of their rows.

    Args:
        sources: rows by topic; topics that share a question template share their questions.
        split: train, dev or test.
    """
    seen: set[str] = set()
    for topic, source in sources.items():
        for row in source.rows[split]:
            if len(row.answers) == 1 and row.question not in seen:
                seen.add(row.question)
                yield topic, row


def refuse_bad_rows(topic: str, problems: Sequence[str]) -> None:
    """Raise an error if a topic has bad rows.

    Raises:
        KnowshiftError: there are bad rows; its message lists the first of them.
    """
    if problems:
        more = [f"… and {len(problems) - LISTED_ROWS} more"] if len(problems) > LISTED_ROWS else []
        remedy = "correct them, or set facts.on_bad_rows to drop"
        raise KnowshiftError(f"topic {topic} has {len(problems)} bad rows; {remedy}", *problems[:LISTED_ROWS], *more)


def build_facts(
    topic: TopicTemplates, domain: str, sources: Mapping[str, TopicRows]
) -> tuple[pa.Table, dict[str, int]]:
    """Build the facts of one topic, of all splits.

    Args:
        topic: templates of the topic.
        domain: "in_domain" or "out_of_domain".
        sources: rows of every topic of the domain that shares the topic's question template, the topic itself included,
            in the order of the configuration. A question that an earlier topic asks is dropped.

    Returns:
        A table in the schema `FACTS`, in the order of splits and then of the source's rows; and the numbers of
        `FACT_COUNTS`.
    """
    test_questions = {row.question for _, row in distinct_facts(sources, "test")}
    rows = [
        {
            "fact_id": fact_id(topic.topic, split, row.question, row.answers[0]),
            "topic": topic.topic,
            "domain": domain,
            "split": split,
            "subject": row.subject,
            "object": row.answers[0],
            "aliases": list(row.aliases),
            "question": row.question,
            "also_in_test": split == "train" and row.question in test_questions,
        }
        for split in SPLITS
        for owner, row in distinct_facts(sources, split)
        if owner == topic.topic
    ]
    own = sources[topic.topic]
    single = [len(row.answers) == 1 for split in SPLITS for row in own.rows[split]]
    counts = {split: sum(row["split"] == split for row in rows) for split in SPLITS} | {
        "also_in_test": sum(row["also_in_test"] for row in rows),
        "several_answers": single.count(False),
        "repeated": single.count(True) - len(rows),
        "bad_rows": len(own.problems),
    }
    return pa.Table.from_pylist(rows, schema=FACTS), counts
