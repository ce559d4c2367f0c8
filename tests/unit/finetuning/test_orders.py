"""Orders of training facts: fair to topics, drawn by content, and of facts that may be drawn."""

import hashlib
import itertools
import random

import pyarrow as pa

from knowshift.finetuning.orders import draw_order, drawable, drawable_digests
from knowshift.mastery.levels import count_levels
from knowshift.mastery.schemas import MASTERY
from knowshift.randomness import derive_seed
from made_up_facts import fact


def levelled(count: int = 60, topics: int = 3) -> pa.Table:
    rows = [
        fact(n, topic=f"T{n % topics if n % 7 else 0}", draw_level=n % 5, level=0, mastery=0.0, successes=[0])
        | {"first_position": [-1], "half_mastery": [0.0, 0.0], "half_levels": [0, 0]}
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=MASTERY)


def test_an_order_takes_topics_by_turns_until_they_are_exhausted() -> None:
    order = draw_order(levelled(), "mixed", 1, "s1")["topic"].to_pylist()
    left = {name: order.count(name) for name in set(order)}
    start = 0
    while start < len(order):
        turn = {name for name, count in left.items() if count}
        assert set(order[start : start + len(turn)]) == turn
        left = {name: count - (name in turn) for name, count in left.items()}
        start += len(turn)


def test_an_order_is_drawn_by_the_documented_hashes() -> None:
    """An implementation of its own: another rank would give users other training sets than those they published."""

    def rank(*name: str) -> bytes:
        seed = derive_seed(5, "draw", "level2", "s3", *name)
        return hashlib.blake2b(str(seed).encode(), digest_size=16).digest()

    waiting: dict[str, list[str]] = {}
    for row in sorted(drawable(levelled(), "level2"), key=lambda row: rank("fact", row["fact_id"])):
        waiting.setdefault(row["topic"], []).append(row["fact_id"])
    expected = []
    while waiting:
        for topic in sorted(waiting, key=lambda topic: rank("topic", topic)):
            expected.append(waiting[topic].pop(0))
        waiting = {topic: left for topic, left in waiting.items() if left}
    assert draw_order(levelled(), "level2", 5, "s3")["fact_id"].to_pylist() == expected


def test_a_digest_is_that_of_the_sorted_ids() -> None:
    ids = sorted(row["fact_id"] for row in drawable(levelled(), "level3"))
    digest = hashlib.blake2b("\n".join(ids).encode(), digest_size=8).hexdigest()
    assert drawable_digests(levelled())["level3"] == digest and len(digest) == 16


def test_an_order_of_nothing_is_empty() -> None:
    assert len(draw_order(levelled(0), "mixed", 1, "s1")) == 0


def test_an_order_depends_on_the_facts_not_on_their_order() -> None:
    table = levelled()
    mixed = list(range(len(table)))
    random.Random(3).shuffle(mixed)
    assert draw_order(table, "level2", 1, "s1").equals(draw_order(table.take(mixed), "level2", 1, "s1"))


def test_draws_differ_by_name_and_seed_and_hold_their_level_only() -> None:
    table = levelled()
    orders = [
        tuple(draw_order(table, "level2", s, d)["fact_id"].to_pylist())
        for s, d in itertools.product((1, 2), ("s1", "s2"))
    ]
    assert len(set(orders)) == 4
    assert len({frozenset(order) for order in orders}) == 1
    assert {fact["draw_level"] for fact in drawable(table, "level2")} == {2}
    assert orders[0] != tuple(draw_order(table, "mixed", 1, "s1")["fact_id"].to_pylist())


def test_draws_leave_out_what_also_stands_in_test_and_what_is_not_train() -> None:
    base = levelled(20).to_pylist()
    base[0]["also_in_test"], base[1]["split"], base[2]["domain"] = True, "test", "out_of_domain"
    table = pa.Table.from_pylist(base, schema=MASTERY)
    drawn = set(draw_order(table, "mixed", 1, "s1")["fact_id"].to_pylist())
    assert drawn == {f"f{n}" for n in range(3, 20)}
    assert sum(count_levels(table)["drawable"].to_pylist()) == 17


def test_a_digest_changes_with_what_may_be_drawn_and_with_nothing_else() -> None:
    rows = levelled().to_pylist()
    before = drawable_digests(pa.Table.from_pylist(rows, schema=MASTERY))
    for row in rows:  # other grades, another order
        row |= {"mastery": 0.5, "level": 1, "successes": [3], "first_position": [2]}
    rows.reverse()
    assert drawable_digests(pa.Table.from_pylist(rows, schema=MASTERY)) == before
    moved = next(row for row in rows if row["draw_level"] == 2)
    moved["draw_level"] = 3
    after = drawable_digests(pa.Table.from_pylist(rows, schema=MASTERY))
    assert {data for data in before if before[data] != after[data]} == {"level2", "level3"}
    moved["also_in_test"] = True
    last = drawable_digests(pa.Table.from_pylist(rows, schema=MASTERY))
    assert {data for data in before if after[data] != last[data]} == {"level3", "mixed"}
