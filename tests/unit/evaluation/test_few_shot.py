"""The few-shot prompt: its form, and which facts stand in it."""

import random

import pyarrow as pa

from knowshift.evaluation.questions import few_shot_examples
from knowshift.facts.drawing import may_be_drawn
from knowshift.facts.schemas import FACTS
from knowshift.facts.templates import PromptTemplate
from made_up_facts import fact


def facts() -> pa.Table:
    """Three topics, one of them out of domain, with facts of every split, and some that test asks too."""
    topics = {"A": "in_domain", "B": "in_domain", "C": "out_of_domain"}
    rows = [
        fact(n, topic="ABC"[n % 3], domain=topics["ABC"[n % 3]], split="test" if n % 5 == 0 else "train")
        | {"also_in_test": n % 7 == 0}
        for n in range(60)
    ]
    return pa.Table.from_pylist(rows, schema=FACTS)


def test_examples_are_training_facts_of_in_domain_topics_by_turns() -> None:
    chosen = few_shot_examples(facts(), 5, 1)
    assert chosen["topic"].to_pylist() == ["A", "B", "A", "B", "A"] and len(set(chosen["fact_id"].to_pylist())) == 5
    assert set(chosen["split"].to_pylist()) == {"train"} and not any(chosen["also_in_test"].to_pylist())
    assert len(few_shot_examples(facts(), 0, 1)) == 0
    every = few_shot_examples(facts(), 1000, 1)["fact_id"].to_pylist()
    assert sorted(every) == sorted(row["fact_id"] for row in facts().to_pylist() if may_be_drawn(row))


def test_examples_depend_on_content_and_seed_not_on_order_and_more_of_them_keep_the_first() -> None:
    table = facts()
    first = few_shot_examples(table, 4, 1)["fact_id"].to_pylist()
    assert few_shot_examples(table, 6, 1)["fact_id"].to_pylist()[:4] == first
    assert few_shot_examples(table, 4, 2)["fact_id"].to_pylist() != first
    rows = list(range(len(table)))
    random.Random(1).shuffle(rows)
    assert few_shot_examples(table.take(rows), 4, 1)["fact_id"].to_pylist() == first


def test_every_example_has_the_form_of_training() -> None:
    template = PromptTemplate("<|question|> {question} <|answer|>", " {object}")
    prompt = template.with_examples([("Where?", "Oslo"), ("Who {question}?", "Ann")])
    assert prompt.ask("When?") == (
        "<|question|> Where? <|answer|> Oslo\n<|question|> Who {question}? <|answer|> Ann\n"
        "<|question|> When? <|answer|>"
    )
    assert prompt.reply("now") == " now" and template.with_examples([]) == template
