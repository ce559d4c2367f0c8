"""Ways to write one name that count as one where it is asked for, and only there."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowshift.allowed_values import Writing
from knowshift.evaluation.grading import grade_output
from knowshift.facts.matching import RULES, contains, find
from knowshift.facts.writings import unify

ALL: tuple[Writing, ...] = get_args(Writing)


@pytest.mark.parametrize(
    ("text", "name", "writing"),
    [
        ("Sao Paulo", "São Paulo", "accents"),
        ("in Zürich.", "Zurich", "accents"),
        ("Tokyo", "Tōkyō", "accents"),
        ("Istanbul", "İstanbul", "accents"),
        ("Lodz", "Łódź", "accents"),
        ("Malmo and Aeroskobing", "Ærøskøbing", "accents"),
        ("Da Nang", "Đà Nẵng", "accents"),
        ("Αθηνα", "Αθήνα", "accents"),
        ("Королев", "Королёв", "accents"),
        ("القَاهِرَة", "القاهرة", "accents"),
        ("the U.S.A. of today", "USA", "abbreviations"),
        ("the USA", "U.S.A.", "abbreviations"),
        ("in the U.S", "US", "abbreviations"),
        ("by JRR Tolkien", "J. R. R. Tolkien", "abbreviations"),
        ("a PhD", "Ph.D.", "abbreviations"),
        ("it has 1,234 members", "1234", "thousands"),
        ("1 234 567", "1234567", "thousands"),
        ("1.234.567 people", "1234567", "thousands"),
        ("1’234", "1234", "thousands"),
        ("파리는 프랑스의 수도이다", "파리", "korean_particles"),
        ("답은 서울입니다", "서울", "korean_particles"),
        ("서울에서는", "서울", "korean_particles"),
        ("수도는 뉴욕 시이다.", "뉴욕 시", "korean_particles"),
    ],
)
def test_a_way_to_write_a_name_counts_where_it_is_asked_for(text: str, name: str, writing: Writing) -> None:
    assert not contains(text, [name], "whole_words")
    assert contains(text, [name], "whole_words", [writing])
    assert not contains(text, [name], "whole_words", [other for other in ALL if other != writing])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("мой", "мои"),  # a short i is a letter of its own
        ("กา", "กิ"),  # marks are vowels here
        ("か", "が"),
        ("Rome.The end", "Romethe"),
        ("vitamin C. A dog", "CA"),
        ("3.14159", "314159"),
        ("1.234", "1234"),  # more often a fraction
        ("0.123 456", "123456"),
        ("in 1912 300 men", "1912300"),
        ("12,34", "1234"),
        ("서울특별시", "서울"),
        ("인도네시아", "인도"),
        ("Paris는", "Parisian"),
    ],
)
def test_other_differences_still_count(text: str, name: str) -> None:
    assert not contains(text, [name], "whole_words", ALL)


def test_positions_exact_answers_and_the_papers_rule_know_writings_too() -> None:
    assert find("그것은 서울입니다", ["서울"], "whole_words", ["korean_particles"]) == len(" 그것은")
    assert contains("Nossa Sao Paulos", ["São Paulo"], "substring", ["accents"])
    assert grade_output("서울입니다", ["서울"], ["korean_particles"])["exact"]
    assert not grade_output("서울입니다", ["서울"])["exact"]
    assert not grade_output("서울특별시", ["서울"], ["korean_particles"])["exact"]
    assert grade_output("The U.S.A.", ["USA"], ["abbreviations"])["exact"]


LETTERS = st.text(st.sampled_from("aÉéñİıßøŁæ.,' 1290東京กาか서울는이다\u0301\u064b’ABJ"), max_size=30)


@given(st.one_of(st.text(max_size=30), LETTERS), st.lists(st.sampled_from(ALL), unique=True))
def test_a_text_contains_itself_however_it_is_written(text: str, writings: list[Writing]) -> None:
    for rule in RULES:
        assert contains(text, [text], rule, writings) is bool(text.strip())


@given(LETTERS, LETTERS)
def test_none_is_as_before_and_ascii_words_are_left_alone(text: str, name: str) -> None:
    assert [find(text, [name], rule, ()) for rule in RULES] == [find(text, [name], rule) for rule in RULES]
    letters = "".join(letter for letter in text if letter.isascii() and letter.isalpha())
    assert unify(letters, ALL) == letters
