"""Does a text contain an object? The one place that decides, for mastery and for evaluation alike."""

import csv
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from knowshift.errors import KnowshiftError

RULES = ("whole_words", "substring")


def normalise(text: str) -> str:
    """NFKC, case-folded, white space folded: what two writings of one name have in common."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@lru_cache(maxsize=100_000)
def _pattern(name: str) -> re.Pattern[str]:
    # An edge needs a boundary only where the name itself ends in a word character; scripts written without spaces
    # (Han, kana, Thai, …) have no such boundary, so their letters need none.
    def edge(character: str, ahead: bool) -> str:
        if not (character.isalnum() or character == "_") or _unspaced(character):
            return ""
        return r"(?!\w)" if ahead else r"(?<!\w)"

    return re.compile(edge(name[0], ahead=False) + re.escape(name) + edge(name[-1], ahead=True))


def _unspaced(character: str) -> bool:
    name = unicodedata.name(character, "")
    return name.startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"))


def find(text: str, names: Iterable[str], rule: str) -> int | None:
    """Where the first of `names` stands in `text` (both normalised), or None.

    Args:
        text: what a model wrote.
        names: the object and its synonyms.
        rule: "whole_words" (a name must not be part of a longer word) or "substring" (the paper's).

    Returns:
        The position in the normalised text of the earliest occurrence, or None.
    """
    haystack = normalise(text)
    positions = []
    for name in map(normalise, names):
        if not name:
            continue
        if rule == "substring":
            position = haystack.find(name)
        else:
            # str.find first: most texts do not hold the name at all, and it is much faster than a regular expression.
            match = _pattern(name).search(haystack) if name in haystack else None
            position = match.start() if match else -1
        if position >= 0:
            positions.append(position)
    return min(positions, default=None)


def contains(text: str, names: Iterable[str], rule: str) -> bool:
    """Whether `text` contains one of `names`; see `find`."""
    return find(text, names, rule) is not None


class Synonyms:
    """Other names of objects: `names("United States")` is that name and all that mean the same."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self._table = table

    def names(self, object_: str) -> list[str]:
        """The object and its synonyms, the object first."""
        return [object_, *self._table.get(object_, [])]

    @classmethod
    def read(cls, paths: Iterable[Path]) -> "Synonyms":
        """Read CSV files with the columns `object` and `synonyms` (separated by `|`); later files add to earlier ones.

        Raises:
            KnowshiftError: a file is missing or a row has no object or no synonym.
        """
        table: dict[str, list[str]] = {}
        for path in paths:
            try:
                with path.open(encoding="utf-8", newline="") as file:
                    rows = list(csv.DictReader(file))
            except FileNotFoundError:
                raise KnowshiftError(f"{path} does not exist; it should list synonyms of objects") from None
            for number, row in enumerate(rows, 2):
                object_, synonyms = row.get("object"), row.get("synonyms")
                if not object_ or not synonyms:
                    raise KnowshiftError(f"{path}, line {number}: needs an object and its synonyms separated by '|'")
                table.setdefault(object_, []).extend(name.strip() for name in synonyms.split("|") if name.strip())
        return cls(table)
