"""Draws training sets as orders of facts: a set of size n is the first n facts, so that sets are nested.

Section 3.3 of the paper describes the training sets; that sizes are nested is this project's choice.
"""

import hashlib
from typing import Any

import pyarrow as pa

from knowshift.facts.drawing import may_be_drawn
from knowshift.finetuning.schemas import ORDERS
from knowshift.mastery.schemas import LEVELS
from knowshift.randomness import derive_seed

DATA = (*(f"level{level}" for level in LEVELS), "mixed")
KNOWN = "known"  # kind of the order of well-known facts, which are trained along (`knowshift.finetuning.replay`)
KNOWN_LEVELS = (3, 4)


def data_levels(data: str) -> tuple[int, ...] | None:
    """Return the mastery levels that a kind of data draws from: `level2` from level 2, `mixed` from all (None)."""
    return None if data == "mixed" else (int(data.removeprefix("level")),)


def drawable(mastery: pa.Table, data: str) -> list[dict[str, Any]]:
    """Return the facts that training sets of a kind of data may draw, each with the level that it is drawn by."""
    levels = data_levels(data)
    rows = mastery.select([*ORDERS.names, "domain", "split", "draw_level", "also_in_test"]).to_pylist()
    return [fact for fact in rows if may_be_drawn(fact) and (levels is None or fact["draw_level"] in levels)]


def drawable_digests(mastery: pa.Table) -> dict[str, str]:
    """Return a digest of the facts that each kind of data may draw; its draws change only if the digest does."""
    facts = drawable(mastery, "mixed")
    digests = {}
    for data in DATA:
        levels = data_levels(data)
        ids = sorted(fact["fact_id"] for fact in facts if levels is None or fact["draw_level"] in levels)
        digests[data] = hashlib.blake2b("\n".join(ids).encode(), digest_size=8).hexdigest()
    return digests


def _known(mastery: pa.Table) -> list[dict[str, Any]]:
    """Return the well-known facts that may be drawn."""
    return [fact for fact in drawable(mastery, "mixed") if fact["draw_level"] in KNOWN_LEVELS]


def draw_order(mastery: pa.Table, data: str, seed: int, draw: str) -> pa.Table:
    """Draw an order of all facts of one kind of data: round robin over topics, within a topic by seeded hash.

    Args:
        mastery: all facts with their levels, in the schema `MASTERY`.
        data: "level0" … "level4", "mixed" or "known".
        seed: the experiment's seed.
        draw: name of the draw; another name gives another order.

    Returns:
        The facts in the schema `ORDERS`; it depends on the facts alone, not on their order in `mastery`.
    """
    topics: dict[str, list[dict[str, Any]]] = {}
    for fact in _known(mastery) if data == KNOWN else drawable(mastery, data):
        topics.setdefault(fact["topic"], []).append(fact)

    def rank(*name: str) -> bytes:
        return hashlib.blake2b(str(derive_seed(seed, "draw", data, draw, *name)).encode(), digest_size=16).digest()

    queues = [
        sorted(topics[topic], key=lambda fact: rank("fact", fact["fact_id"]))
        for topic in sorted(topics, key=lambda topic: rank("topic", topic))
    ]
    rounds = max(map(len, queues), default=0)
    order = [queue[turn] for turn in range(rounds) for queue in queues if turn < len(queue)]
    return pa.Table.from_pylist(order, schema=ORDERS)
