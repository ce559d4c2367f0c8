"""Mastery of facts from their completions, and the levels that follow."""

import pyarrow as pa

from knowshift.facts.matching import Synonyms
from knowshift.facts.schemas import FACTS
from knowshift.mastery.levels import count_levels, grade, level_of
from knowshift.mastery.schemas import COMPLETIONS, MASTERY
from made_up_facts import fact

BOUNDARIES = (0.25, 0.5, 0.75)


def test_levels_are_exact_at_their_boundaries() -> None:
    levels = [level_of(n, 12, BOUNDARIES) for n in range(13)]
    assert levels == [0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert [level_of(n, 4, BOUNDARIES) for n in range(5)] == [0, 1, 2, 3, 4]
    assert level_of(1, 210, BOUNDARIES) == 1
    assert level_of(1, 10, (0.1, 0.2, 0.3)) == 1  # 0.1 is not a binary fraction, and still a boundary


def test_grading_counts_successes_per_template() -> None:
    facts = pa.Table.from_pylist([fact(1), fact(2, object="why", aliases=["y"])], schema=FACTS)
    texts = {("f1", 0): ["x", "no x"], ("f1", 1): ["xx", "z"], ("f2", 0): ["z", "z"], ("f2", 1): ["Y", "the y"]}
    rows = [
        {"fact_id": f, "template": t, "sample": s, "text": text}
        for (f, t), samples in texts.items()
        for s, text in enumerate(samples)
    ]
    completions = pa.Table.from_pylist(rows, schema=COMPLETIONS)
    table = grade(facts, completions, 2, Synonyms({}), "whole_words", BOUNDARIES)
    assert table["mastery"].to_pylist() == [0.5, 0.5]
    assert table["level"].to_pylist() == [2, 2]
    assert table["successes"].to_pylist() == [[2, 0], [0, 2]]
    assert table["first_position"].to_pylist() == [[0, -1], [-1, 0]]


def test_facts_without_completions_are_left_out_and_others_keep_their_order() -> None:
    facts = pa.Table.from_pylist([fact(3), fact(1), fact(2)], schema=FACTS)
    rows = [{"fact_id": name, "template": 0, "sample": 0, "text": "x"} for name in ("f2", "f3")]
    table = grade(facts, pa.Table.from_pylist(rows, schema=COMPLETIONS), 2, Synonyms({}), "whole_words", BOUNDARIES)
    assert table["fact_id"].to_pylist() == ["f3", "f2"]
    assert table["successes"].to_pylist() == [[1, 0]] * 2 and table["first_position"].to_pylist() == [[0, -1]] * 2
    assert (
        table["half_mastery"].to_pylist() == [[1.0, None]] * 2 and table["half_levels"].to_pylist() == [[4, None]] * 2
    )


def test_the_earliest_position_of_a_template_counts() -> None:
    texts = ["it is an x", "no", "so x", "it may well be x"]
    rows = [{"fact_id": "f1", "template": 1, "sample": s, "text": text} for s, text in enumerate(texts)]
    completions = pa.Table.from_pylist(rows, schema=COMPLETIONS)
    facts = pa.Table.from_pylist([fact(1)], schema=FACTS)
    row = grade(facts, completions, 2, Synonyms({}), "substring", BOUNDARIES).to_pylist()[0]
    assert row["first_position"] == [-1, 3] and row["successes"] == [0, 3]
    assert row["mastery"] == 0.75 and row["level"] == row["draw_level"] == 3


def test_levels_are_counted_per_domain_topic_and_split_with_none_left_out() -> None:
    def graded(number: int, level: int, drawn: int, **more: object) -> dict:
        halves = {"half_mastery": [0.0, 0.0], "half_levels": [0, 0]}
        return fact(number, **more) | halves | {
            "mastery": 0.0, "level": level, "draw_level": drawn, "successes": [0], "first_position": [-1],
        }  # fmt: skip

    rows = [graded(1, 0, 2), graded(2, 0, 2), graded(3, 4, 4, split="test"), graded(4, 1, 1, topic="A")]
    found = count_levels(pa.Table.from_pylist(rows, schema=MASTERY)).to_pylist()
    units = [(row["topic"], row["split"]) for row in found]
    train, test = (rows[0]["topic"], "train"), (rows[0]["topic"], "test")
    assert units == [unit for unit in sorted([("A", "train"), train, test]) for _ in range(5)]
    assert [row["level"] for row in found] == [0, 1, 2, 3, 4] * 3
    counts = {(row["topic"], row["split"], row["level"]): (row["facts"], row["drawable"]) for row in found}
    assert {unit: count for unit, count in counts.items() if count != (0, 0)} == {
        (*train, 0): (2, 0),
        (*train, 2): (0, 2),
        (*test, 4): (1, 0),
        ("A", "train", 1): (1, 1),
    }
