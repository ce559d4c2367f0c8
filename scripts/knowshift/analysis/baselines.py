"""Answers without a model: to every question of a topic, the object that its training facts have most often."""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

from knowshift.evaluation.schemas import OUTCOMES


def most_frequent_objects(facts: pa.Table) -> dict[str, str]:
    """Find each topic's most frequent object over its training facts; of equally frequent ones the first by name.

    Facts whose question is also asked in test do not count. A topic that is out of domain has training facts too,
    although no model is trained on them.

    Args:
        facts: all facts, in the schema `FACTS`.
    """
    counts: dict[str, Counter[str]] = {}
    for row in facts.select(["topic", "split", "object", "also_in_test"]).to_pylist():
        if row["split"] == "train" and not row["also_in_test"]:
            counts.setdefault(row["topic"], Counter())[row["object"]] += 1
    return {topic: min(found, key=lambda name: (-found[name], name)) for topic, found in counts.items()}


def most_frequent_outcomes(facts: pa.Table, asked: Iterable[tuple[str, str]]) -> pa.Table:
    """Answer questions with their topic's most frequent object, as if a model had said it.

    Args:
        facts: all facts, in the schema `FACTS`.
        asked: pairs of a fact's id and the set that asks it.

    Returns:
        A row per question in the schema `OUTCOMES`. An answer is empty where the topic has no training facts.
        Probabilities are NaN, counts are 0 and lists are empty: there is no model that gives them.
    """
    objects = most_frequent_objects(facts)
    topics = dict(zip(facts["fact_id"].to_pylist(), facts["topic"].to_pylist(), strict=True))
    rest = {field.name: _nothing(field.type) for field in OUTCOMES}
    rows = [
        {**rest, "fact_id": fact, "set": name, "output": objects.get(topics.get(fact, ""), "")} for fact, name in asked
    ]
    return pa.Table.from_pylist(rows, schema=OUTCOMES)


def _nothing(kind: pa.DataType) -> object:
    """The value of a column that only a model could fill."""
    if pa.types.is_floating(kind):
        return float("nan")
    return 0 if pa.types.is_integer(kind) else []
