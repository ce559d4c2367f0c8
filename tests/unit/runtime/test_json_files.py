"""JSON that is not what it is meant to be ends in one line, in a user's file, a manifest or on a command line."""

import json
from pathlib import Path

import pytest

from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.json_files import parse_json, read_json_object

JSON = [
    ("", "empty; make it a list"),
    ("[1, 2", "not valid JSON"),
    ("[" * 200_000, "nested too deeply"),
    ("[" * 200_000 + "]" * 200_000, "nested too deeply"),
    ("[" * 60 + "]" * 60, "nested too deeply"),
    ('{"a":' * 100_000, "nested too deeply"),
    ("9" * 5000, "a number of thousands of digits"),
    ('[{"a": 1, "b": 2, "a": 3}]', "the key 'a' is given twice"),
    ("NaNs", "not valid JSON"),
    ("{'a': 1}", "not valid JSON"),
]


@pytest.mark.parametrize(("text", "says"), JSON, ids=range(len(JSON)))
def test_what_is_no_json_is_said_in_one_line(text: str, says: str) -> None:
    with pytest.raises(KnowshiftError) as caught:
        parse_json(text, "FILE, line 3", "make it a list")
    said = str(caught.value)
    assert said.startswith("FILE, line 3: ") and says in said and "\n" not in said and len(said) < 300


def test_brackets_in_texts_are_no_nesting() -> None:
    value = {"a": ["[" * 100, '\\"[{' * 50], "b": {}}
    assert parse_json(json.dumps(value), "FILE") == value


def test_a_list_may_be_long() -> None:
    assert len(parse_json("[" + ",".join(['{"a": [1]}'] * 50_000) + "]", "FILE")) == 50_000


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"9" * 5000, b"[]", b'"a"', b"{}\0"])
def test_a_file_that_holds_no_object_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(KnowshiftError) as caught:
        read_json_object(tmp_path / "a.json", "make it anew")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'a.json'}: ") and said.endswith("; make it anew") and "\n" not in said


def test_an_object_is_read_as_other_readers_read_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1, "a": 2}')
    assert read_json_object(tmp_path / "a.json") == {"a": 2}
    with pytest.raises(FileNotFoundError):
        read_json_object(tmp_path / "b.json")
    (tmp_path / "c.json").symlink_to(tmp_path / "nothing")
    with pytest.raises(KnowshiftError, match="does not exist"):
        read_json_object(tmp_path / "c.json")
