"""Decides whether a text contains an object, for mastery and for evaluation alike."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import get_args

from knowshift.allowed_values import Matching, Writing
from knowshift.facts.texts import matches_nearly_anything, problem_with_text, tidy
from knowshift.facts.writings import unify, with_particles
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.user_files import read_csv

RULES: tuple[Matching, ...] = get_args(Matching)
KEPT_SYMBOLS = "#&+"  # parts of names: C++, AT&T, R&B
ARTICLES = ("the ", "a ", "an ")
SHORTEST_WITHOUT_ARTICLE = 4  # characters: "The Who" must not be found in "who"

# Matches a letter with its marks in scripts written without spaces: Thai, Lao, Myanmar, Khmer, kana, Bopomofo, Han.
# Each counts as a word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff][\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece"
    "\u102b-\u103e\u17b4-\u17d3]*"
)


class _Spaces(dict):
    """A table for `str.translate` that turns all but letters, digits, marks and kept symbols into spaces.

    It is filled with the characters that occur.
    """

    def __missing__(self, code: int) -> str:
        """Add the translation of a character, given by its code point."""
        character = chr(code)
        self[code] = kept = (
            character if unicodedata.category(character)[0] in "LNM" or character in KEPT_SYMBOLS else " "
        )
        return kept


_SPACES = _Spaces()


def normalise(text: str, writings: Sequence[Writing] = ()) -> str:
    """Bring spellings of one name to a common form: NFKC, case-folded, with single spaces; see also `unify`."""
    text = unify(text, writings) if writings else text
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split())


def words(text: str, writings: Sequence[Writing] = ()) -> str:
    """Normalise a text and reduce it to its words, without punctuation, joined by single spaces.

    A word is a run of letters, digits, marks and kept symbols; in scripts written without spaces every letter is a
    word.

    Args:
        text: the text.
        writings: which ways to write one name count as one, see `unify`.
    """
    text = unify(text, writings) if writings else text
    if text.isascii():
        return " ".join(text.lower().translate(_SPACES).split())
    spaced = unicodedata.normalize("NFKC", text).casefold().translate(_SPACES)
    return " ".join(_UNSPACED.sub(r" \g<0> ", spaced).split())


@lru_cache(maxsize=1_000_000)
def _needles(name: str, rule: str, writings: tuple[Writing, ...] = ()) -> tuple[str, ...]:
    """List the normalised strings to search for.

    For whole words they are between spaces, and a name with an English article is searched without it as well.
    """
    if rule == "substring":
        return (normalise(name, writings),) if name.strip() else ()
    written = words(name, writings)
    if not written:  # the name has only punctuation
        return (normalise(name, writings),) if name.strip() else ()
    bare = next((written.removeprefix(article) for article in ARTICLES if written.startswith(article)), "")
    return (f" {written} ", f" {bare} ") if len(bare) >= SHORTEST_WITHOUT_ARTICLE else (f" {written} ",)


def find(text: str, names: Iterable[str], rule: str, writings: Sequence[Writing] = ()) -> int | None:
    """Find the earliest occurrence of any of some names in a text.

    Args:
        text: what a model wrote.
        names: the object and its other names.
        rule: "whole_words" compares word by word, without punctuation and without a name's article; "substring" is the
            paper's rule.
        writings: which ways to write one name count as one, see `unify`.

    Returns:
        The position of the occurrence, in characters of the normalised text (for whole words, of `words(text)`), or
        None if there is none.
    """
    writings = tuple(writings)
    haystack = f" {words(text, writings)} " if rule == "whole_words" else normalise(text, writings)
    first = -1
    for name in names:
        for needle in _needles(name, rule, writings):
            searched = haystack if needle[0] == " " or rule == "substring" else normalise(text, writings)
            position = searched.find(needle)
            if position < 0 and "korean_particles" in writings and needle[0] == " ":
                pattern = with_particles(needle[1:-1])
                found = pattern.search(searched) if pattern else None
                position = found.start() - 1 if found else -1  # of the space before it, as for other names
            if position >= 0 and (first < 0 or position < first):
                first = position
    return None if first < 0 else first


def contains(text: str, names: Iterable[str], rule: str, writings: Sequence[Writing] = ()) -> bool:
    """Tell whether a text contains one of some names; see `find`."""
    return find(text, names, rule, writings) is not None


class Synonyms:
    """Other names of objects.

    Args:
        table: synonyms by object.
    """

    def __init__(self, table: dict[str, list[str]]) -> None:
        self._table = table

    def names(self, object_: str, aliases: Sequence[str] = ()) -> list[str]:
        """List all names of an object: itself, then the given aliases, then its synonyms."""
        return [object_, *aliases, *self._table.get(object_, [])]

    @classmethod
    def read(cls, paths: Iterable[Path]) -> "Synonyms":
        """Read synonyms from CSV files with the columns `object` and `synonyms` (separated by `|`).

        Later files add to earlier ones.

        Raises:
            KnowshiftError: a file is missing or is not such a CSV file, a row has no object or no synonym, or a synonym
                is in nearly any answer.
        """
        table: dict[str, list[str]] = {}
        for path in paths:
            missing = " does not exist; it should list synonyms of objects"
            for number, row in read_csv(path, missing, ("object", "synonyms")):
                object_, *names = map(tidy, (row.get("object", ""), *row.get("synonyms", "").split("|")))
                names = list(filter(None, names))
                if not object_ or not names:
                    raise KnowshiftError(f"{path}, line {number}: has no object or no synonym; fill it in")
                for name in (object_, *names):
                    if problem := problem_with_text(name, "a name"):
                        raise KnowshiftError(f"{path}, line {number}: {problem}")
                    if name != object_ and matches_nearly_anything(name):
                        raise KnowshiftError(f"{path}, line {number}: {name!r} is in nearly any answer; remove it")
                table.setdefault(object_, []).extend(names)
        return cls(table)
