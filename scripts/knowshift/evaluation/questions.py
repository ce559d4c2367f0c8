"""Selection of questions: held-out ones by mastery level, some of a training set, and those for the divergence."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import pyarrow as pa

from knowshift.facts.drawing import may_be_drawn
from knowshift.randomness import derive_seed


def question_set(domain: str, split: str) -> str:
    """Name a set of questions: its split, followed by `_ood` for out-of-domain topics."""
    return split if domain == "in_domain" else f"{split}_ood"


def select_questions(mastery: pa.Table, per_level: Mapping[str, int | None], seed: int) -> pa.Table:
    """Choose the held-out questions, by a seeded hash: up to a number of each mastery level from each set.

    The choice is the same for every model, so comparisons between models are paired.

    Args:
        mastery: all facts, in the schema `MASTERY`.
        per_level: number of questions per level, by question set; None takes all, and a set not named gives none.
        seed: the experiment's seed.

    Returns:
        The chosen rows of `mastery`, in its order, with one more column, `set`.
    """
    kept, sets = [], []
    groups: dict[tuple[str, int], list[tuple[bytes, int]]] = {}
    for index, row in enumerate(mastery.select(["fact_id", "domain", "split", "level"]).to_pylist()):
        name = question_set(row["domain"], row["split"])
        sets.append(name)
        if row["split"] == "train" or name not in per_level:
            continue
        rank = hashlib.blake2b(str(derive_seed(seed, "question", row["fact_id"])).encode()).digest()
        groups.setdefault((name, row["level"]), []).append((rank, index))
    for (name, _), members in groups.items():
        kept += [index for _, index in sorted(members)[: per_level[name]]]
    return mastery.append_column("set", pa.array(sets, pa.string())).take(pa.array(sorted(kept), pa.int64()))


def cell_questions(
    mastery: pa.Table, per_level: Mapping[str, int | None], seed: int, trained: Sequence[str]
) -> pa.Table:
    """Choose the questions to a fine-tuned model: some of its own training set, then the held-out ones.

    Args:
        mastery, per_level, seed: see `select_questions`.
        trained: ids of the training facts to ask, in their order; their set is called `training_set`.

    Returns:
        A table with the columns fact_id, set, question and object.
    """
    columns = ["fact_id", "set", "question", "object"]
    indices = {fact: index for index, fact in enumerate(mastery["fact_id"].to_pylist())}
    own = mastery.take(pa.array([indices[fact] for fact in trained], pa.int64()))
    own = own.append_column("set", pa.array(["training_set"] * len(own), pa.string())).select(columns)
    return pa.concat_tables([own, select_questions(mastery, per_level, seed).select(columns)])


def base_questions(mastery: pa.Table, per_level: Mapping[str, int | None], seed: int) -> pa.Table:
    """Return what the pre-trained model is asked: every in-domain training fact, then the held-out questions.

    Returns:
        The facts of `mastery` that are asked, with a column `set`.
    """
    columns = zip(mastery["split"].to_pylist(), mastery["domain"].to_pylist(), strict=True)
    trainable = [(split, domain) == ("train", "in_domain") for split, domain in columns]
    train = mastery.filter(pa.array(trainable, pa.bool_()))
    train = train.append_column("set", pa.array(["train"] * len(train), pa.string()))
    return pa.concat_tables([train, select_questions(mastery, per_level, seed)])


def few_shot_examples(mastery: pa.Table, count: int, seed: int) -> pa.Table:
    """Choose the training facts that stand as examples before every question of the few-shot prompt.

    The in-domain topics take turns in the order of their names, each with its facts in the order of a seeded hash of
    their ids. The examples are the same for all questions, so that they show the form of an answer and nothing of the
    question's topic. Facts whose question is also asked in test are left out.

    Args:
        mastery: all facts, in the schema `MASTERY`.
        count: number of examples; fewer are returned if there are fewer facts.
        seed: the experiment's seed.

    Returns:
        The chosen rows of `mastery`, in the order in which the prompt shows them.
    """
    topics: dict[str, list[tuple[bytes, int]]] = {}
    columns = ["fact_id", "topic", "domain", "split", "also_in_test"]
    for index, fact in enumerate(mastery.select(columns).to_pylist()):
        if may_be_drawn(fact):
            rank = hashlib.blake2b(str(derive_seed(seed, "few shot", fact["fact_id"])).encode()).digest()
            topics.setdefault(fact["topic"], []).append((rank, index))
    queues = [[index for _, index in sorted(members)[:count]] for _, members in sorted(topics.items())]
    turns = [index for turn in zip_longest(*queues) for index in turn if index is not None]
    return mastery.take(pa.array(turns[:count], pa.int64()))


def best_templates(mastery: pa.Table) -> dict[str, int]:
    """Find each topic's best completion template: the one with the most successes over all facts of the topic.

    Args:
        mastery: facts in the schema `MASTERY`.

    Returns:
        Index of the template by topic; of equally good ones the first.
    """
    totals: dict[str, list[int]] = {}
    for topic, successes in zip(mastery["topic"].to_pylist(), mastery["successes"].to_pylist(), strict=True):
        sums = totals.setdefault(topic, [0] * len(successes))
        totals[topic] = [a + b for a, b in zip(sums, successes, strict=True)]
    return {topic: sums.index(max(sums)) for topic, sums in totals.items()}


def leading_facts(questions: pa.Table, mastery: pa.Table) -> pa.Table:
    """Choose the facts for the divergence (section 3.4 of the paper), whose object leads a completion.

    They are the test facts of level 4 of which some completion, sampled after the topic's best template, begins with
    the object.

    Args:
        questions: rows of `mastery` to choose from, as `select_questions` gives them.
        mastery: all facts, in the schema `MASTERY`.

    Returns:
        The chosen rows of `questions`, with one more column, `template`: the index of the topic's best template.
    """
    best = best_templates(mastery)
    columns = zip(questions["split"].to_pylist(), questions["level"].to_pylist(), strict=True)
    rows = questions.filter(pa.array([split == "test" and level == 4 for split, level in columns], pa.bool_()))
    chosen = [best[topic] for topic in rows["topic"].to_pylist()]
    leads = [
        positions[template] == 0 for positions, template in zip(rows["first_position"].to_pylist(), chosen, strict=True)
    ]
    return rows.append_column("template", pa.array(chosen, pa.int16())).filter(pa.array(leads, pa.bool_()))
