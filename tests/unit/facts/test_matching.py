"""Which texts contain an object, by whole words and by the paper's rule."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowshift.facts import matching
from knowshift.facts.matching import KEPT_SYMBOLS, RULES, Synonyms, contains, find, normalise, words

UNSPACED = {"THAI", "LAO", "MYANMAR", "KHMER", "HIRAGANA", "KATAKANA", "BOPOMOFO", "CJK"}


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("Tirana", "Iran", False),
        ("It is in Iran.", "Iran", True),
        ("Nigeria", "Niger", False),
        ("Romania", "Oman", False),
        ("in NIGER!", "Niger", True),
        ("São Paulo", "Sa\u0303o Paulo", True),
        ("St. Louis, MO", "St. Louis", True),
        ("东京是日本的首都", "东京", True),
        ("กรุงเทพมหานคร", "กรุงเทพ", True),
        ("ＵＳＡ", "USA", True),
        ("", "x", False),
        ("Straße", "STRASSE", True),
        ("New  York", "New York", True),
        ("1,000 dollars", "1,000", True),
        ("11,000", "1,000", False),
        ("St Louis", "St. Louis", True),
        ("Iran’s capital", "Iran", True),
        ("Saint Denis", "Saint-Denis", True),
        ("the Hague", "Hague", True),
        ("in Hague", "The Hague", True),
        ("who sang it", "The Who", False),
        ("by the Who", "The Who", True),
        ("Iranの首都", "Iran", True),
        ("東京", "東京都", False),
        ("กรุงเทพ", "กรุง", True),
        ("written in C", "C++", False),
        ("in C++.", "C++", True),
        ("AT&T", "AT&T", True),
        ("by !!!", "!!!", True),
        ("서울", "서울", True),
        ("x", " ", False),
    ],
)
def test_whole_words(text: str, name: str, found: bool) -> None:
    assert contains(text, [name], "whole_words") is found


def test_the_papers_rule_is_plain_containment() -> None:
    assert contains("Tirana", ["Iran"], "substring")


def test_synonyms_count_and_the_earliest_name_gives_the_position(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("object,synonyms\nUnited States,USA|America\n")
    names = Synonyms.read([tmp_path / "s.csv"]).names("United States")
    assert names == ["United States", "USA", "America"]
    assert find("USA, the United States", names, "whole_words") == 0


@given(
    st.lists(st.sampled_from(["iran", "Tirana", "the", "St.", "Louis", "東", "京", "x", "!", "o'b"]), max_size=7),
    st.lists(st.sampled_from(["Iran", "st", "louis", "東", "京", "o", "B"]), min_size=1, max_size=3),
)
def test_whole_words_are_a_run_of_words(text: list[str], name: list[str]) -> None:
    haystack, needle = words(" ".join(text)).split(), words(" ".join(name)).split()
    runs = [haystack[start : start + len(needle)] for start in range(len(haystack))]
    assert contains(" ".join(text), [" ".join(name)], "whole_words") is (needle in runs)
    assert words(words(" ".join(text))) == words(" ".join(text))


@given(
    st.lists(st.sampled_from(["Iran", "tirana", "the", "St.", "Louis", "東", "x", "!", "C++", "é"]), max_size=9),
    st.lists(st.sampled_from(["Iran", "st louis", "St.", "東", "The Iran", "the x", "C++", "É", "!"]), max_size=3),
)
def test_the_position_is_that_of_the_earliest_of_all_names(text: list[str], names: list[str]) -> None:
    written = " ".join(text)
    starts = {normalise(written).find(normalise(name)) for name in names} - {-1}
    assert find(written, names, "substring") == (min(starts) if starts else None)
    runs, starts = words(written).split(), set()
    for name in names:
        if name == "!":  # without a word, it is looked for as it is
            starts.add(normalise(written).find("!"))
        for wanted in (words(name).split(), ["iran"] if name == "The Iran" else []):
            for first in range(len(runs)):
                if wanted and runs[first : first + len(wanted)] == wanted:
                    starts.add(len(" ".join([*runs[:first], ""])))
    assert find(written, names, "whole_words") == (min(starts - {-1}) if starts - {-1} else None)


def test_letters_digits_and_marks_make_words_and_all_else_parts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_SPACES", type(matching._SPACES)())  # others may have filled the table
    tried = 0
    for character in map(chr, range(0x20, 0x3400)):
        text = f"a{character}b"
        if unicodedata.normalize("NFKC", text).casefold() != text:
            continue
        tried += 1
        kept = unicodedata.category(character)[0] in {"L", "N", "M"} or character in KEPT_SYMBOLS
        alone = not UNSPACED.isdisjoint(unicodedata.name(character, "").replace("-", " ").split())
        assert words(text) == ("a b" if not kept else f"a {character} b" if alone else text), hex(ord(character))
    assert tried > 5000


def test_names_are_an_object_its_aliases_and_then_the_synonyms_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("object,synonyms\nUnited States,USA| |America\nIran,Persia\n")
    (tmp_path / "more.csv").write_text("object,synonyms\nUnited States,Columbia\n")
    known = Synonyms.read([tmp_path / "s.csv", tmp_path / "more.csv"])
    assert known.names("United States", ["US", "U.S."]) == ["United States", "US", "U.S.", "USA", "America", "Columbia"]
    assert known.names("Iran") == ["Iran", "Persia"] and known.names("Oman", ["X"]) == ["Oman", "X"]


@given(st.text(max_size=40))
def test_a_text_contains_itself(text: str) -> None:
    for rule in RULES:
        assert contains(text, [text], rule) is bool(text.strip())
