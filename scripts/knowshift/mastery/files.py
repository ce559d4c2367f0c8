"""What probing and grading read from files: facts and templates to probe, and completions to grade."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from knowshift.allowed_values import LevelsFrom, Writing
from knowshift.facts.matching import Synonyms
from knowshift.facts.schemas import FACTS
from knowshift.facts.templates import read_topic_templates
from knowshift.mastery.levels import grade
from knowshift.mastery.schemas import COMPLETIONS
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_table, table_metadata
from knowshift.runtime.progress import progress


def read_facts(path: Path, split: str | None, limit: int | None, seed: int) -> pa.Table:
    """Read the facts to probe.

    Args:
        path: facts table.
        split: only facts of this split; None reads all.
        limit: at most so many facts, chosen by seeded hash; None reads all.
        seed: the experiment's seed.

    Returns:
        The facts in the schema `FACTS`, in the order of the table.
    """
    facts = read_table(path, FACTS).replace_schema_metadata(None)
    if split is not None:
        facts = _where(facts, "split", {split})
    if limit is None or len(facts) <= limit:
        return facts

    def rank(fact: str) -> bytes:
        return hashlib.blake2b(str(derive_seed(seed, "limit", fact)).encode()).digest()

    return _where(facts, "fact_id", set(sorted(facts["fact_id"].to_pylist(), key=rank)[:limit]))


def _where(table: pa.Table, column: str, values: Collection[str]) -> pa.Table:
    """Return the rows whose column has one of some values."""
    return table.filter(pa.array([value in values for value in table[column].to_pylist()], pa.bool_()))


def read_completion_templates(path: Path, topic: str, count: int) -> tuple[str, ...]:
    """Read the first `count` completion templates of a topic.

    Args:
        path: the topic's file, or the folder of all topics' files.

    Raises:
        KnowshiftError: the topic has fewer.
    """
    file = path / f"{topic}.yaml" if path.is_dir() else path
    templates = read_topic_templates(file).completions
    if len(templates) < count:
        raise KnowshiftError(
            f"{file} has {len(templates)} completion templates, but mastery.templates is {count};"
            " write more or lower it"
        )
    return templates[:count]


def chunks_by_topic(facts: pa.Table, size: int) -> list[pa.Table]:
    """Cut facts into chunks of at most `size`, each of one topic; topics in the order of their first fact."""
    topics = list(dict.fromkeys(facts["topic"].to_pylist()))
    members = [_where(facts, "topic", {topic}) for topic in topics]
    return [part.slice(start, size) for part in members for start in range(0, len(part), size)]


def grade_files(
    facts: Sequence[Path],
    completions: Sequence[Path],
    synonyms: Synonyms,
    rule: str,
    boundaries: Sequence[float],
    levels_from: LevelsFrom = "all",
    writings: Sequence[Writing] = (),
) -> pa.Table:
    """Grade the completions of some files, one file in memory at a time.

    Args:
        facts: facts tables; together they hold all facts that were probed.
        completions: completions tables.
        synonyms: other names of objects.
        rule: the matching rule.
        boundaries: mastery at which levels 1, 2 and 3 end.
        levels_from, writings: see `levels.grade`.

    Returns:
        A row per probed fact in the schema `MASTERY`.
    """
    known = pa.concat_tables(read_table(path, FACTS).replace_schema_metadata(None) for path in facts)

    def graded() -> Iterator[pa.Table]:
        for path in progress(completions, what="grading", unit="units"):
            table = read_table(path, COMPLETIONS)
            probed = _where(known, "fact_id", set(table["fact_id"].to_pylist()))
            templates = table_metadata(table).get("templates")
            if not isinstance(templates, int):
                raise KnowshiftError(f"{path} does not say its number of templates; probe again: rm {path}")
            yield grade(probed, table, templates, synonyms, rule, boundaries, levels_from, writings)

    return pa.concat_tables(graded())
