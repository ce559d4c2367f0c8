"""Mastery of facts from their completions, and the levels that follow."""

import pyarrow as pa

from knowshift.facts.matching import Synonyms
from knowshift.facts.schemas import FACTS
from knowshift.mastery.levels import grade, level_of
from knowshift.mastery.schemas import COMPLETIONS
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
