"""Which texts contain an object, by whole words and by the paper's rule."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowshift.facts.matching import RULES, Synonyms, contains, find, words


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


@given(st.text(max_size=40))
def test_a_text_contains_itself(text: str) -> None:
    for rule in RULES:
        assert contains(text, [text], rule) is bool(text.strip())
