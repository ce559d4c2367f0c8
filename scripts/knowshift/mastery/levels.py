"""Mastery of a fact: the share of its completions that contain the object, and the level that follows (section 3.2)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import pyarrow as pa

from knowshift.facts.matching import Synonyms, find
from knowshift.mastery.schemas import LEVEL_COUNTS, LEVELS, MASTERY


def level_of(successes: int, total: int, boundaries: Sequence[float]) -> int:
    """The mastery level: 0 if nothing succeeded, else 1 + the number of boundaries below successes/total.

    Exact at the boundaries: with (0.25, 0.5, 0.75), 1 of 4 is level 1 and 2 of 4 is level 2.
    """
    if successes == 0:
        return 0
    return 1 + bisect_left([Fraction(str(boundary)) for boundary in boundaries], Fraction(successes, total))


def grade(
    facts: pa.Table, completions: pa.Table, templates: int, synonyms: Synonyms, rule: str, boundaries: Sequence[float]
) -> pa.Table:
    """Match completions against objects.

    Args:
        facts: the facts that were probed.
        completions: their completions.
        templates: T, how many templates each was probed with.
        synonyms: other names of objects.
        rule: the matching rule.
        boundaries: where levels 1, 2 and 3 end.

    Returns:
        One row per probed fact in the schema `MASTERY`, in the order of `facts`.
    """
    names = {
        fact: synonyms.names(object_, aliases)
        for fact, object_, aliases in zip(
            *(facts[name].to_pylist() for name in ("fact_id", "object", "aliases")), strict=True
        )
    }
    totals: Counter[str] = Counter()
    successes = {fact: [0] * templates for fact in names}
    first = {fact: [-1] * templates for fact in names}
    columns = (completions[name].to_pylist() for name in ("fact_id", "template", "text"))
    for fact, template, text in zip(*columns, strict=True):
        place = find(text, names[fact], rule)
        totals[fact] += 1
        if place is not None:
            successes[fact][template] += 1
            earliest = first[fact][template]
            first[fact][template] = place if earliest < 0 else min(place, earliest)
    probed = [row for row in facts.to_pylist() if totals[row["fact_id"]]]
    for row in probed:
        fact = row["fact_id"]
        right = sum(successes[fact])
        row |= {
            "mastery": right / totals[fact],
            "level": level_of(right, totals[fact], boundaries),
            "successes": successes[fact],
            "first_position": first[fact],
        }
    return pa.Table.from_pylist(probed, schema=MASTERY)


def count_levels(mastery: pa.Table) -> pa.Table:
    """How many facts stand at each level, per domain, topic and split; levels without facts are listed with 0."""
    counts: Counter[tuple] = Counter()
    drawable: Counter[tuple] = Counter()
    units = set()
    for row in mastery.select(["domain", "topic", "split", "level", "also_in_test"]).to_pylist():
        unit = (row["domain"], row["topic"], row["split"])
        units.add(unit)
        counts[*unit, row["level"]] += 1
        drawable[*unit, row["level"]] += may_be_drawn(row)
    return pa.Table.from_pylist(
        [
            dict(zip(LEVEL_COUNTS.names, (*unit, level, counts[*unit, level], drawable[*unit, level]), strict=True))
            for unit in sorted(units)
            for level in LEVELS
        ],
        schema=LEVEL_COUNTS,
    )


def may_be_drawn(fact: dict) -> bool:
    """Training sets draw in-domain train facts whose question is not also a test question."""
    return fact["domain"] == "in_domain" and fact["split"] == "train" and not fact["also_in_test"]
