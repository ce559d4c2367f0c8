"""An experiment that cannot measure anything is known as such before anything is probed."""

import pytest

from knowshift.finetuning.grid import Cell, cells
from knowshift.planning.fact_counts import TopicSize
from knowshift.planning.feasibility import drawable_facts, nothing_to_measure, too_few_facts


def topics(train: int, test: int, other_test: int = 10) -> dict[str, TopicSize]:
    """Two topics that share the facts, and one out of domain."""
    lengths = {"completion": 1, "question": 1, "answer": 1}
    halves = [(train // 2, test), (train - train // 2, 0)]
    own = {
        f"T{number}": TopicSize("in_domain", {"train": most + 5, "dev": 0, "test": tests}, most, **lengths)
        for number, (most, tests) in enumerate(halves)
    }
    return {**own, "U": TopicSize("out_of_domain", {"dev": 0, "test": other_test}, 0, **lengths)}


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ({"train": 0, "test": 9}, "none of its topics has a train fact"),
        ({"train": 9, "test": 0}, "none of its topics has a test fact"),
        ({"train": 59, "test": 1}, "finetuning.sizes: the smallest is 60, and only 59 facts can be trained on"),
        ({"train": 60, "test": 1}, None),
        ({"train": 60, "test": 1, "other_test": 0}, None),
    ],
)
def test_what_no_facts_allow_is_said_in_one_line(size: dict[str, int], says: str | None) -> None:
    planned = cells(["full"], ["level1", "mixed"], [60, 5000], [1, 2], data_sizes={"level1": [5000]})
    said = nothing_to_measure(planned, topics(**size))
    assert said is None if says is None else said is not None and says in said and "\n" not in said


def test_the_size_all_takes_what_there_is() -> None:
    assert nothing_to_measure(cells(["full"], ["mixed"], [5000, "all"], [1]), topics(1, 1)) is None
    assert nothing_to_measure(cells(["full"], ["mixed"], ["all"], [1]), topics(0, 1)) is not None


@pytest.mark.parametrize(
    ("run", "facts", "says"),
    [
        ("full-mixed-9999-s1", 59, "is trained on 9,999 facts of the kind mixed, and only 59 are there"),
        ("lora-level4-2-s7", 1, "is trained on 2 facts of the kind level4, and only 1 is there"),
        ("full-level4-all-s1", 0, "is trained on all facts of the kind level4, and none is there"),
        ("full-mixed-59-s1", 59, None),
        ("full-level4-all-s1", 1, None),
    ],
)
def test_a_run_that_is_asked_for_by_name_needs_its_facts(run: str, facts: int, says: str | None) -> None:
    said = too_few_facts(Cell.parse(run), facts)
    assert said is None if says is None else said is not None and f"{run} {says}" in said and "\n" not in said


def test_the_facts_that_can_be_drawn_are_those_of_domains_that_are_trained() -> None:
    assert drawable_facts(topics(train=59, test=9)) == 59
