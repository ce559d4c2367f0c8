"""Messages are one line that may be printed, logged and kept, whoever chose the words in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowshift.runtime.errors import KnowshiftError, presentable, shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\nerror: b", r"a\nerror: b"),  # no name makes a line of its own
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),  # no terminal obeys it
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\ud800", r"\ud800"),
        ("Zürich, 東京, …", "Zürich, 東京, …"),
        ("https://me:secret@host/x", "https://…@host/x"),
        ("https://me:s@cret@host", "https://…@host"),
        ("https://host/a@b?c=d@e", "https://host/a@b?c=d@e"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_what_a_message_says(text: str, said: str) -> None:
    assert presentable(text) == str(KnowshiftError(text)) == said


def test_a_list_of_problems_has_a_line_for_each() -> None:
    assert str(KnowshiftError("two", "a\nb", "c")) == "two\na\\nb\nc"


@given(st.text())
def test_every_message_can_be_printed(text: str) -> None:
    for said in (presentable(text), shown(text), shown([text])):
        assert said.isprintable() and said.encode().decode() == said
    assert presentable(presentable(text)) == presentable(text)
