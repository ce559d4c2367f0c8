"""Which questions are asked: held-out ones by mastery level, some of a training set, and those for divergence."""

import hashlib
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from knowshift.randomness import derive_seed


def question_set(domain: str, split: str) -> str:
    """The name of a set of questions: the split, with `_ood` for the other domain."""
    return split if domain == "in_domain" else f"{split}_ood"


def select_questions(mastery: pa.Table, per_level: Mapping[str, int | None], seed: int) -> pa.Table:
    """Which held-out questions are scored: of each set, up to so many of each mastery level, by seeded hash.

    Args:
        mastery: all levelled facts.
        per_level: question set to number per level; None takes all, a set not named takes none.
        seed: the experiment's seed.

    Returns:
        The facts of `mastery` that are scored, with a column `set`, in its order; the same for every model of a grid
        cell, so comparisons are paired.
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
    """What a fine-tuned model is asked: the held-out questions, after some facts of its own training set.

    Args:
        trained: ids of the training facts to ask, in their order; their set is `training_set`.

    Returns:
        Columns fact_id, set, question, object.
    """
    columns = ["fact_id", "set", "question", "object"]
    places = {fact: place for place, fact in enumerate(mastery["fact_id"].to_pylist())}
    own = mastery.take(pa.array([places[fact] for fact in trained], pa.int64()))
    own = own.append_column("set", pa.array(["training_set"] * len(own), pa.string())).select(columns)
    return pa.concat_tables([own, select_questions(mastery, per_level, seed).select(columns)])


def base_questions(mastery: pa.Table, per_level: Mapping[str, int | None], seed: int) -> pa.Table:
    """Return what the pre-trained model is asked: every in-domain training fact, then the held-out questions.

    Returns:
        The facts of `mastery` that are asked, with a column `set`.
    """
    train = mastery.filter(pc.and_(pc.equal(mastery["split"], "train"), pc.equal(mastery["domain"], "in_domain")))
    train = train.append_column("set", pa.array(["train"] * len(train), pa.string()))
    return pa.concat_tables([train, select_questions(mastery, per_level, seed)])


def best_templates(mastery: pa.Table) -> dict[str, int]:
    """Per topic, the completion template with the most successes over all its facts; the earliest of equals."""
    totals: dict[str, list[int]] = {}
    for topic, successes in zip(mastery["topic"].to_pylist(), mastery["successes"].to_pylist(), strict=True):
        sums = totals.setdefault(topic, [0] * len(successes))
        totals[topic] = [a + b for a, b in zip(sums, successes, strict=True)]
    return {topic: sums.index(max(sums)) for topic, sums in totals.items()}


def leading_facts(questions: pa.Table, mastery: pa.Table) -> pa.Table:
    """Level-4 test facts whose sampled answer stands at the start of a completion of the topic's best template.

    Returns:
        Rows of `questions` with a column `template` (section 3.4 of the paper).
    """
    best = best_templates(mastery)
    tests = pc.and_(pc.equal(questions["split"], "test"), pc.equal(questions["level"], 4))
    rows = questions.filter(tests)
    chosen = [best[topic] for topic in rows["topic"].to_pylist()]
    leads = [starts[place] == 0 for starts, place in zip(rows["first_position"].to_pylist(), chosen, strict=True)]
    return rows.append_column("template", pa.array(chosen, pa.int16())).filter(pa.array(leads, pa.bool_()))
