"""Wrong answers by what they are: nothing, another object of the topic, nearly the right one, or something else."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from knowshift.allowed_values import Writing
from knowshift.analysis.columns import table
from knowshift.analysis.knowledge_schemas import WRONG_ANSWERS
from knowshift.analysis.scores import references
from knowshift.analysis.study import TESTS, Study, reference_columns
from knowshift.facts.matching import ARTICLES, SHORTEST_WITHOUT_ARTICLE, words
from knowshift.mastery.schemas import LEVELS

RIGHT, NOTHING, OTHER_OBJECT, NEAR, OTHER = KINDS = ("right", "nothing", "other object", "near", "other")
LETTERS_PER_EDIT = 4  # a name of so many letters may differ in one of them and still be near; of twice as many in two
_BATCH = 1 << 17  # rows of the table of answers that are read at a time


def edit_distance(first: str, second: str, limit: int) -> int:
    """Compute Levenshtein's distance: insertions, deletions and replacements of letters from one text to the other.

    Args:
        limit: Distances above it are not told apart: `limit` + 1 is returned for all of them.
    """
    if abs(len(first) - len(second)) > limit:
        return limit + 1
    row = list(range(len(second) + 1))
    for index, letter in enumerate(first, 1):
        above, row[0] = row[0], index
        for column, other in enumerate(second, 1):
            above, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, above + (letter != other))
        if min(row) > limit:
            return limit + 1
    return min(row[-1], limit + 1)


def _bare(written: str) -> str:
    """Leave out the leading article of a name in words, unless little else is left, as matching does."""
    bare = next((written.removeprefix(article) for article in ARTICLES if written.startswith(article)), written)
    return bare if len(bare) >= SHORTEST_WITHOUT_ARTICLE else written


class TopicObjects:
    """The objects of one topic, to be looked for in answers.

    Args:
        names: The names of each object: itself and its aliases.
        writings: Which ways to write one name count as one.
    """

    def __init__(self, names: Iterable[Sequence[str]], writings: Sequence[Writing] = ()) -> None:
        self._writings = tuple(writings)
        self._names = {form for group in names for form in self.forms(group)}
        self._longest = max((len(name.split()) for name in self._names), default=0)

    @staticmethod
    @lru_cache(maxsize=200_000)
    def _forms(names: tuple[str, ...], writings: tuple[Writing, ...]) -> frozenset[str]:
        written = {words(name, writings) for name in names}
        return frozenset({*written, *map(_bare, written)} - {""})

    def forms(self, names: Sequence[str]) -> frozenset[str]:
        """The names in words, with and without their articles."""
        return self._forms(tuple(names), self._writings)

    def kind_of(self, answer: str, names: Sequence[str]) -> str:
        """Say what a wrong answer is, as one of `KINDS`.

        Args:
            answer: What the model said.
            names: The right object and its aliases.
        """
        said = words(answer, self._writings).split()
        if not said:
            return NOTHING
        right = self.forms(names)
        spans = {
            " ".join(said[start : start + length])
            for length in range(1, self._longest + 1)
            for start in range(len(said) - length + 1)
        }
        if (spans & self._names) - right:
            return OTHER_OBJECT
        return NEAR if any(self._is_near(said, name) for name in right) else OTHER

    @staticmethod
    def _is_near(said: Sequence[str], name: str) -> bool:
        """Whether some consecutive words differ from a name in few letters."""
        limit = len(name) // LETTERS_PER_EDIT
        count = len(name.split())
        spans = {
            " ".join(said[start : start + length])
            for length in (count - 1, count, count + 1)
            if length > 0
            for start in range(max(1, len(said) - length + 1))
        }
        return limit > 0 and any(edit_distance(span, name, limit) <= limit for span in spans)


def tabulate_wrong_answers(
    study: Study, path: Path, mastery: pa.Table, rule: str, writings: Sequence[Writing] = ()
) -> pa.Table:
    """Count the answers of every kind by level of the question, in the schema `WRONG_ANSWERS`.

    Args:
        study: The study.
        path: The graded answers, in the schema `ANSWERS`.
        mastery: A table in the schema `MASTERY`.
        rule: The matching rule that decides which answers are right.
        writings: Which ways to write one name count as one.
    """
    facts = {
        row["fact_id"]: row for row in mastery.select(["fact_id", "topic", "level", "object", "aliases"]).to_pylist()
    }
    groups: dict[str, list[tuple[str, ...]]] = {}
    for row in facts.values():
        row["names"] = (row["object"], *row["aliases"])
        groups.setdefault(row["topic"], []).append(row["names"])
    objects = {topic: TopicObjects(set(names), writings) for topic, names in groups.items()}
    models = {key.run: (reference_columns(name), 1) for name, key in references(study).items()}
    for condition in study.conditions:
        models |= dict.fromkeys(condition.runs, (condition.columns, len(condition.runs)))
    counts: dict[tuple, Counter[str]] = {}
    kinds: dict[tuple[str, str], str] = {}
    for run, name, fact, right, output in _answers(path, rule, models):
        if right:
            kind = RIGHT
        elif (kind := kinds.get((fact, output), "")) == "":
            row = facts[fact]
            kind = kinds[fact, output] = objects[row["topic"]].kind_of(output, row["names"])
        columns, seeds = models[run]
        key = (tuple(columns.items()), seeds, name, facts[fact]["level"])
        counts.setdefault(key, Counter())[kind] += 1
    rows = []
    for (columns, seeds, name, level), found in counts.items():
        head = {**dict(columns), "seeds": seeds, "set": name, "level": level, "questions": found.total() // seeds}
        rows += [{**head, "kind": kind, "answers": found[kind], "share": found[kind] / found.total()} for kind in KINDS]
    rows.sort(key=lambda row: (list(TESTS).index(row["set"]), LEVELS.index(row["level"])))
    return table(rows, WRONG_ANSWERS)


def _answers(path: Path, rule: str, models: Mapping[str, object]) -> Iterator[tuple[str, str, str, bool, str]]:
    """Read run, set, fact, grade and output of the unrestored answers of some models to test questions."""
    columns = ["run", "percent", "set", "fact_id", rule, "output"]
    for batch in pq.ParquetFile(path).iter_batches(_BATCH, columns=columns):
        for run, percent, name, fact, right, output in zip(
            *(batch.column(column).to_pylist() for column in columns), strict=True
        ):
            if percent is None and name in TESTS and run in models:
                yield run, name, fact, right, output
