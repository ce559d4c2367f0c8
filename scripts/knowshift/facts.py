"""Raw question files to facts: which facts count, and one stable row for each.

The rule for what counts (one answer, one fact per distinct question) gives the totals of Ye et al. 2025, section 3.1.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from knowshift.artifacts import canonical_json
from knowshift.errors import KnowshiftError
from knowshift.raw import raw_path, read_raw
from knowshift.templates import TopicTemplates

SPLITS = ("train", "dev", "test")
LISTED = 20  # bad rows that an error names

FACTS = pa.schema(
    [
        pa.field("fact_id", pa.string(), False, {"doc": "hash of topic, split, question and object"}),
        pa.field("topic", pa.string(), False, {"doc": "relation id, such as P36"}),
        pa.field("domain", pa.string(), False, {"doc": "in_domain or out_of_domain"}),
        pa.field("split", pa.string(), False, {"doc": "train, dev or test"}),
        pa.field("subject", pa.string(), False),
        pa.field("object", pa.string(), False, {"doc": "the one right answer"}),
        pa.field("question", pa.string(), False),
        pa.field("also_in_test", pa.bool_(), False, {"doc": "a train fact whose question is also a test question"}),
    ]
)


def fact_id(topic: str, split: str, question: str, object_: str) -> str:
    """A stable id from a fact's content: 16 hexadecimal digits."""
    content = canonical_json([topic, split, question, object_]).encode()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def distinct_facts(
    root: Path, split: str, topics: Sequence[TopicTemplates]
) -> Iterator[tuple[TopicTemplates, str, str, str]]:
    """The facts that count among `topics`, as (topic, question, subject, object).

    A fact counts if it has one answer and no earlier fact has its question, in the order of `topics`, then of the file.
    """
    seen: set[str] = set()
    for templates in topics:
        for row in read_raw(raw_path(root, templates.topic, split), templates)[0]:
            if len(row.answers) == 1 and row.question not in seen:
                seen.add(row.question)
                yield templates, row.question, row.subject, row.answers[0]


def check_rows(root: Path, topic: TopicTemplates, on_bad_rows: str) -> int:
    """Look at every raw row of a topic.

    Args:
        on_bad_rows: "stop" or "drop".

    Returns:
        How many bad rows there are.

    Raises:
        KnowshiftError: a row is bad and `on_bad_rows` is "stop"; lists the first of them.
    """
    bad = [line for split in SPLITS for line in read_raw(raw_path(root, topic.topic, split), topic)[1]]
    if bad and on_bad_rows == "stop":
        more = [f"… and {len(bad) - LISTED} more"] if len(bad) > LISTED else []
        remedy = "mend them, or set facts.on_bad_rows to drop"
        raise KnowshiftError(
            "\n".join([f"topic {topic.topic} has {len(bad)} bad rows; {remedy}", *bad[:LISTED], *more])
        )
    return len(bad)


def build_facts(root: Path, domain: str, topic: TopicTemplates, siblings: Sequence[TopicTemplates] = ()) -> pa.Table:
    """All facts of one topic, over all splits.

    Args:
        root: the directory with `train/`, `dev/` and `test/`.
        domain: "in_domain" or "out_of_domain".
        topic: the topic to build.
        siblings: all topics of the domain that share the topic's question template, itself included, in the order of
            the configuration; a question that an earlier sibling has is dropped.

    Returns:
        A table in the schema `FACTS`, in the order of the splits and of the file.
    """
    group = list(siblings) or [topic]
    test_questions = {question for _, question, _, _ in distinct_facts(root, "test", group)}
    rows = [
        {
            "fact_id": fact_id(topic.topic, split, question, object_),
            "topic": topic.topic,
            "domain": domain,
            "split": split,
            "subject": subject,
            "object": object_,
            "question": question,
            "also_in_test": split == "train" and question in test_questions,
        }
        for split in SPLITS
        for owner, question, subject, object_ in distinct_facts(root, split, group)
        if owner.topic == topic.topic
    ]
    return pa.Table.from_pylist(rows, schema=FACTS)
