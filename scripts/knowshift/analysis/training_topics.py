"""Which topics the facts of every training set are of."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from knowshift.analysis.columns import table
from knowshift.analysis.knowledge_schemas import TRAINING_TOPICS
from knowshift.analysis.study import Study
from knowshift.facts.schemas import FACTS
from knowshift.runtime.parquet import read_table


def tabulate_training_topics(study: Study, orders: Sequence[Path]) -> pa.Table:
    """Count the training facts of every run by topic, in the schema `TRAINING_TOPICS`.

    Args:
        study: The study.
        orders: `DATA-sSEED.parquet`, the orders that training sets are the first facts of.
    """
    topics = {path.stem: read_table(path, FACTS, ["topic"])["topic"].to_pylist() for path in orders}
    rows = []
    for condition in study.conditions:
        for run, seed in zip(condition.runs, condition.seeds, strict=True):
            drawn = Counter(topics.get(f"{condition.data}-s{seed}", [])[: condition.size])
            head = {"run": run, **condition.columns, "seed": seed}
            rows += [{**head, "topic": topic, "facts": drawn[topic]} for topic in sorted(drawn)]
    return table(rows, TRAINING_TOPICS)
