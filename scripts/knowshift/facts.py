"""Raw question files to facts: which facts count, and one stable row for each.

The rule for what counts (one answer, one fact per distinct question) gives the totals of Ye et al. 2025, section 3.1.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from knowshift.artifacts import canonical_json
from knowshift.errors import KnowshiftError
from knowshift.templates import TopicTemplates

SPLITS = ("train", "dev", "test")

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


def raw_path(root: Path, topic: str, split: str) -> Path:
    """Where a raw file lies: `{split}/{topic}.{split}.json`."""
    return root / split / f"{topic}.{split}.json"


def read_raw(path: Path) -> list[tuple[str, list[str]]]:
    """Read one raw file into (question, answers) pairs.

    Raises:
        KnowshiftError: the file is missing, is not JSON, or a row is not of the expected form; names file and row.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise KnowshiftError(f"{path} does not exist; put the raw questions of this topic and split there") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise KnowshiftError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(rows, list):
        raise KnowshiftError(f"{path}: must be a JSON list of objects with the keys question and answers")
    pairs = []
    for number, row in enumerate(rows, 1):
        question = row.get("question") if isinstance(row, dict) else None
        answers = row.get("answers") if isinstance(row, dict) else None
        good = isinstance(question, str) and isinstance(answers, list) and answers
        if not good or not all(isinstance(answer, str) and answer.strip() for answer in answers):
            raise KnowshiftError(f"{path}, row {number}: needs a question and a list of at least one non-empty answer")
        pairs.append((question, answers))
    return pairs


def distinct_facts(
    root: Path, split: str, topics: Sequence[TopicTemplates]
) -> Iterator[tuple[TopicTemplates, str, str, str]]:
    """The facts that count among `topics`, as (topic, question, subject, object).

    A fact counts if it has one answer and no earlier fact has its question, in the order of `topics`, then of the file.

    Raises:
        KnowshiftError: a question does not fit its topic's template.
    """
    seen: set[str] = set()
    for templates in topics:
        path = raw_path(root, templates.topic, split)
        for number, (question, answers) in enumerate(read_raw(path), 1):
            subject = templates.subject_of(question)
            if subject is None:
                raise KnowshiftError(f"{path}, row {number}: {question!r} does not fit {templates.question!r}")
            if len(answers) == 1 and question not in seen:
                seen.add(question)
                yield templates, question, subject, answers[0]


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
