"""Reads facts from a table of the user's own: CSV, TSV, JSON Lines or Parquet, with one fact per row."""

import difflib
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from knowshift.canonical import canonical_json
from knowshift.facts.source_rows import SPLITS, SourceRow, TopicRows, problem_with_subject
from knowshift.facts.templates import TopicTemplates
from knowshift.facts.texts import matches_nearly_anything, problem_with_text, tidy
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.json_files import parse_json
from knowshift.runtime.parquet import read_foreign_table
from knowshift.runtime.user_files import read_csv, read_text

REQUIRED = ("topic", "subject", "object")
COLUMNS = (*REQUIRED, "aliases", "split", "question")
MISSING = " does not exist; it must be the table of facts"
FORM = f"an object with {', '.join(REQUIRED)}"
_IDENTIFIER = re.compile(r"(ids?|number|index|key|hash|uuid|url|uri)$", re.IGNORECASE)  # as in question_id
_LIST_AS_TEXT = re.compile(r"""\[\s*["'].*["']\s*,?\s*\]""", re.DOTALL)
DELIMITERS = {".csv": ",", ".tsv": "\t"}

LocatedRow = tuple[str, dict[str, Any]]  # where the row is ("FILE, line 3"), and its cells by column


class FactTable:
    """A table of facts. Columns other than `COLUMNS` are ignored, and empty cells count as absent.

    Raises:
        KnowshiftError: the file cannot be read, is of an unknown kind or empty, or lacks a required column.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[Any, list[LocatedRow]] = defaultdict(list)  # by topic; None if it is no text
        columns: set[str] = set()
        for location, row in self._read():
            columns |= row.keys()
            cells = {name: tidy(cell) if isinstance(cell := row.get(name), str) else cell for name in COLUMNS}
            kept = {name: cell for name, cell in cells.items() if cell not in (None, "")}
            topic = kept.get("topic")
            self._rows[topic if isinstance(topic, str) else None].append((location, kept))
        if not self._rows:
            raise KnowshiftError(f"{path} is empty; it needs a row per fact with the columns {', '.join(REQUIRED)}")
        if missing := [name for name in REQUIRED if name not in columns]:
            raise KnowshiftError(f"{path} has no column {missing[0]}; it has {', '.join(sorted(columns))}")
        for name in sorted(columns - set(COLUMNS)):
            if _IDENTIFIER.search(name):
                continue
            if meant := [close for close in difflib.get_close_matches(name, COLUMNS) if close not in columns]:
                raise KnowshiftError(f"{path} has a column {name}; rename it to {meant[0]} if that is meant")

    def topics(self) -> list[str]:
        """List the topics of the table, sorted."""
        return sorted(topic for topic in self._rows if topic)

    def digest(self, topics: Sequence[str]) -> str:
        """Hash the rows of some topics and the rows without a topic; other rows do not change the digest."""
        rows = [[topic, [row for _, row in self._rows.get(topic, [])]] for topic in (None, *sorted(topics))]
        return hashlib.sha256(json.dumps(rows, sort_keys=True, default=str).encode()).hexdigest()

    def read(self, templates: TopicTemplates, split_shares: Mapping[str, float]) -> TopicRows:
        """Check the rows of a topic, and complete those that name no question or no split.

        Args:
            templates: templates of the topic; they make the question of a row that has none.
            split_shares: share of the facts by split, from 0 to 1, for rows that name no split; see `draw_split`.

        Raises:
            KnowshiftError: the table has no row on this topic.
        """
        if templates.topic not in self._rows:
            raise KnowshiftError(
                f"{self.path} has no row of topic {templates.topic}; its topics are {', '.join(self.topics())}"
            )
        rows: dict[str, list[SourceRow]] = {split: [] for split in SPLITS}
        problems = [
            f"{location}: has no topic that is text; fill it in or remove the row" for location, _ in self._rows[None]
        ]
        seen: dict[tuple[str, str], tuple[str, str]] = {}
        for location, row in self._rows[templates.topic]:
            if problem := _problem(row):
                problems.append(f"{location}: {problem}")
                continue
            question = row.get("question") or templates.ask(row["subject"])
            split = row.get("split") or draw_split(templates.topic, row["subject"], split_shares)
            earlier, object_ = seen.setdefault((split, question), (location, row["object"]))
            if earlier == location:
                rows[split].append(SourceRow(question, row["subject"], (object_,), tuple(_aliases(row))))
            elif object_ == row["object"]:
                problems.append(f"{location}: is the same fact as {earlier}, so their ids are equal; remove one")
            else:
                problems.append(
                    f"{location}: asks what {earlier} asks, with another object; remove one, or make it an alias"
                )
        return TopicRows(rows, problems)

    def _read(self) -> Iterator[LocatedRow]:
        """Yield all rows, each with its location."""
        readers = {
            ".csv": self._read_csv,
            ".tsv": self._read_csv,
            ".jsonl": self._read_jsonl,
            ".parquet": self._read_parquet,
        }
        if self.path.suffix not in readers:
            raise KnowshiftError(f"{self.path}: the name of a table of facts ends in {', '.join(readers)}")
        yield from readers[self.path.suffix]()

    def _read_csv(self) -> Iterator[LocatedRow]:
        for number, row in read_csv(self.path, MISSING, REQUIRED, DELIMITERS[self.path.suffix]):
            yield f"{self.path}, line {number}", row

    def _read_jsonl(self) -> Iterator[LocatedRow]:
        for number, line in enumerate(read_text(self.path, MISSING).split("\n"), 1):
            if not line.strip():
                continue
            location = f"{self.path}, line {number}"
            row = parse_json(line, location, f"it must hold {FORM}")
            if not isinstance(row, dict):
                raise KnowshiftError(f"{location}: is {type(row).__name__}, not {FORM}")
            yield location, row

    def _read_parquet(self) -> Iterator[LocatedRow]:
        for number, row in enumerate(read_foreign_table(self.path, MISSING, COLUMNS), 1):
            yield f"{self.path}, row {number}", row


def draw_split(topic: str, subject: str, shares: Mapping[str, float]) -> str:
    """Draw the split of a fact by hash of its topic and subject, whatever else the table holds.

    Args:
        topic: the topic.
        subject: the subject.
        shares: share of the facts by split, from 0 to 1.
    """
    digest = hashlib.blake2b(canonical_json(["split", topic, subject]).encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "little") / 2**64
    for split in SPLITS[:-1]:
        if point < shares[split]:
            return split
        point -= shares[split]
    return SPLITS[-1]


def _aliases(row: Mapping[str, Any]) -> list[Any]:
    """Read the aliases of a row, which are a list or one text separated by `|`."""
    given = row.get("aliases", [])
    if isinstance(given, str):
        return [name for name in map(tidy, given.split("|")) if name]
    return [tidy(name) if isinstance(name, str) else name for name in given] if isinstance(given, list) else given


def _problem(row: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a row and what to do about it; None if it is fine."""
    for name in REQUIRED:
        if name not in row:
            return f"has no {name}; fill it in or remove the row"
    aliases = _aliases(row)
    if not isinstance(aliases, list):
        return f"aliases is {type(aliases).__name__}, not a list of texts or one text separated by '|'"
    texts = [(row[name], f"the {name}") for name in ("subject", "object", "question") if name in row]
    texts += [(alias, "an alias") for alias in aliases]
    if problem := next(filter(None, (problem_with_text(text, name) for text, name in texts)), None):
        return problem
    if isinstance(given := row.get("aliases"), str) and _LIST_AS_TEXT.fullmatch(given):
        return f"aliases is a list that was written as text ({given[:60]!r}); write its names with '|' between them"
    if common := next(filter(matches_nearly_anything, aliases), None):
        return f"the alias {common!r} is in nearly any answer; remove it"
    if row.get("split", SPLITS[0]) not in SPLITS:
        return f"the split is {row['split']!r}; it must be one of {', '.join(SPLITS)}, or empty"
    return problem_with_subject(row["subject"])
