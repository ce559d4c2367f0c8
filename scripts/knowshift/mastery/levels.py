"""Grades completions: the mastery of a fact is the share of its completions that contain its object (section 3.2)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import pyarrow as pa

from knowshift.allowed_values import LevelsFrom, Writing
from knowshift.facts.drawing import may_be_drawn
from knowshift.facts.matching import Synonyms, find
from knowshift.mastery.schemas import LEVEL_COUNTS, LEVELS, MASTERY


def level_of(successes: int, total: int, boundaries: Sequence[float]) -> int:
    """Find the mastery level: 0 without a success, else 1 + the number of boundaries below successes / total.

    The comparison is exact: with the boundaries (0.25, 0.5, 0.75), 1 of 4 is level 1 and 2 of 4 is level 2.

    Args:
        successes: number of completions that contain the object.
        total: number of completions.
        boundaries: mastery at which levels 1, 2 and 3 end, rising.
    """
    if successes == 0:
        return 0
    return 1 + bisect_left([Fraction(str(boundary)) for boundary in boundaries], Fraction(successes, total))


def half_of(template: int, sample: int) -> int:
    """Tell which half of the completions one belongs to: 0 or 1, in turns within a template.

    The turns of every second template begin with the other half, so the halves are equal, or differ by one completion,
    whatever the numbers of templates and samples.

    Args:
        template: index of the completion template.
        sample: number of the sample, from 0.
    """
    return (template + sample) % 2


def grade(
    facts: pa.Table,
    completions: pa.Table,
    templates: int,
    synonyms: Synonyms,
    rule: str,
    boundaries: Sequence[float],
    levels_from: LevelsFrom = "all",
    writings: Sequence[Writing] = (),
) -> pa.Table:
    """Match completions with objects, and grade every fact that was probed.

    Args:
        facts: facts in the schema `FACTS`; those without completions are left out.
        completions: completions in the schema `COMPLETIONS`.
        templates: T, the number of templates that each fact was probed with.
        synonyms: other names of objects.
        rule: the matching rule, whole_words or substring.
        boundaries: mastery at which levels 1, 2 and 3 end, rising.
        levels_from: `all` takes mastery and both levels from all completions; `first_half` takes the level that
            training sets draw by from the first half, and mastery and the level of analysis from the second.
        writings: which ways to write one name count as one.

    Returns:
        One row per probed fact in the schema `MASTERY`, in the order of `facts`. Its lists have T entries, or two where
        they are of halves.
    """
    names = {
        fact: synonyms.names(object_, aliases)
        for fact, object_, aliases in zip(
            *(facts[name].to_pylist() for name in ("fact_id", "object", "aliases")), strict=True
        )
    }
    totals = {fact: [0, 0] for fact in names}  # completions in either half
    halves = {fact: [0, 0] for fact in names}  # those with the object
    successes = {fact: [0] * templates for fact in names}
    first = {fact: [-1] * templates for fact in names}
    columns = (completions[name].to_pylist() for name in ("fact_id", "template", "sample", "text"))
    for fact, template, sample, text in zip(*columns, strict=True):
        position = find(text, names[fact], rule, writings)
        half = half_of(template, sample)
        totals[fact][half] += 1
        if position is not None:
            successes[fact][template] += 1
            halves[fact][half] += 1
            earliest = first[fact][template]
            first[fact][template] = position if earliest < 0 else min(position, earliest)
    probed = [row for row in facts.to_pylist() if sum(totals[row["fact_id"]])]
    for row in probed:
        fact = row["fact_id"]
        counts = list(zip(halves[fact], totals[fact], strict=True))
        whole = (sum(halves[fact]), sum(totals[fact]))
        drawn, analysed = counts if levels_from == "first_half" else (whole, whole)
        row |= {
            "mastery": analysed[0] / analysed[1],
            "level": level_of(*analysed, boundaries),
            "draw_level": level_of(*drawn, boundaries),
            "half_mastery": [right / total if total else None for right, total in counts],
            "half_levels": [level_of(right, total, boundaries) if total else None for right, total in counts],
            "successes": successes[fact],
            "first_position": first[fact],
        }
    return pa.Table.from_pylist(probed, schema=MASTERY)


def count_levels(mastery: pa.Table) -> pa.Table:
    """Count the facts at each level of every domain, topic and split; a level without facts has a row with 0.

    Args:
        mastery: graded facts in the schema `MASTERY`.

    Returns:
        A table in the schema `LEVEL_COUNTS`, sorted by domain, topic, split and level.
    """
    counts: Counter[tuple[str, str, str, int]] = Counter()
    drawable: Counter[tuple[str, str, str, int]] = Counter()
    units: set[tuple[str, str, str]] = set()
    for row in mastery.select(["domain", "topic", "split", "level", "draw_level", "also_in_test"]).to_pylist():
        unit = (row["domain"], row["topic"], row["split"])
        units.add(unit)
        counts[*unit, row["level"]] += 1
        drawable[*unit, row["draw_level"]] += may_be_drawn(row)
    return pa.Table.from_pylist(
        [
            dict(zip(LEVEL_COUNTS.names, (*unit, level, counts[*unit, level], drawable[*unit, level]), strict=True))
            for unit in sorted(units)
            for level in LEVELS
        ],
        schema=LEVEL_COUNTS,
    )
