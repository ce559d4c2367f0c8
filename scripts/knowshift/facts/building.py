"""Rows of a source to facts: which of them count, and one stable row for each.

The rule for what counts (one answer, one fact per distinct question) gives the totals of Ye et al. 2025, section 3.1.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from knowshift.canonical import canonical_json
from knowshift.facts.schemas import FACTS
from knowshift.facts.source_rows import SPLITS, Row, Source
from knowshift.facts.templates import TopicTemplates
from knowshift.runtime.errors import KnowshiftError

LISTED = 20  # bad rows that an error names


def fact_id(topic: str, split: str, question: str, object_: str) -> str:
    """A stable id from a fact's content: 16 hexadecimal digits."""
    content = canonical_json([topic, split, question, object_]).encode()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def distinct_facts(sources: Mapping[str, Source], split: str) -> Iterator[tuple[str, Row]]:
    """The facts that count among some topics, as (topic, row).

    A row counts if it has one answer and no earlier one has its question, in the order of `sources`, then of the rows.
    """
    seen: set[str] = set()
    for topic, source in sources.items():
        for row in source.rows[split]:
            if len(row.answers) == 1 and row.question not in seen:
                seen.add(row.question)
                yield topic, row


def refuse_bad_rows(topic: str, bad: Sequence[str]) -> None:
    """Stop at bad rows.

    Raises:
        KnowshiftError: there are some; lists the first of them.
    """
    if bad:
        more = [f"… and {len(bad) - LISTED} more"] if len(bad) > LISTED else []
        remedy = "mend them, or set facts.on_bad_rows to drop"
        raise KnowshiftError("\n".join([f"topic {topic} has {len(bad)} bad rows; {remedy}", *bad[:LISTED], *more]))


def build_facts(topic: TopicTemplates, domain: str, sources: Mapping[str, Source]) -> tuple[pa.Table, dict[str, int]]:
    """All facts of one topic, over all splits.

    Args:
        topic: the topic to build.
        domain: "in_domain" or "out_of_domain".
        sources: what the source has on each topic of the domain that shares the topic's question template, itself
            included, in the order of the configuration; a question that an earlier topic has is dropped.

    Returns:
        A table in the schema `FACTS`, in the order of the splits and of the source; and the numbers of `FACT_COUNTS`.
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
        "bad_rows": len(own.bad),
    }
    return pa.Table.from_pylist(rows, schema=FACTS), counts
