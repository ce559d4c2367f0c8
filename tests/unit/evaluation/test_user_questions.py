"""A file of questions of a user's own is read as it is meant, or named in one line."""

import json
from pathlib import Path

import pytest

from knowshift.evaluation.user_questions import as_questions, read_question_file
from knowshift.runtime.errors import KnowshiftError

GOOD = {"question": "Where?", "answers": ["Paris"]}
BAD = [
    ("", "is empty"),
    ("\n \n", "is empty"),
    ("[]", "line 1: must be"),
    ("3", "line 1: must be"),
    ("{}", "line 1: must be"),
    ("{", "line 1: not valid JSON"),
    ("[" * 200_000, "line 1: nested too deeply"),
    ("9" * 5000, "line 1: holds a number of thousands of digits"),
    ('{"question": "a", "question": "b", "answers": ["x"]}', "line 1: the key 'question' is given twice"),
    ('{"question": "", "answers": ["x"]}', "line 1: must be"),
    ('{"question": 1, "answers": ["x"]}', "line 1: must be"),
    ('{"question": "a", "answers": []}', "line 1: must be"),
    ('{"question": "a", "answers": "x"}', "line 1: must be"),
    ('{"question": "a", "answers": ["x", "\\u200b "]}', "line 1: must be"),
    ('{"question": "a\\ud800", "answers": ["x"]}', "line 1: 'a\\ud800' holds half of a character"),
    ('{"question": "a", "answers": ["\\udfff"]}', "line 1: '\\udfff' holds half of a character"),
    (json.dumps(GOOD) + '\n{"question"', "line 2: not valid JSON"),
]


@pytest.mark.parametrize(("content", "says"), BAD, ids=range(len(BAD)))
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(KnowshiftError) as caught:
        read_question_file(path)
    said = str(caught.value)
    assert str(path) in said and says in said and "\n" not in said and len(said) < 400


def test_questions_keep_their_form_and_answers_are_tidied(tmp_path: Path) -> None:
    row = {"question": "First line\nsecond\u2028 line?", "answers": [" Par\u200bis ", "the"], "more": 1}
    (tmp_path / "q.jsonl").write_text("\ufeff" + json.dumps(row, ensure_ascii=False) + "\r\n\r\n", encoding="utf-8")
    (read,) = read_question_file(tmp_path / "q.jsonl")
    assert read["question"] == row["question"] and read["answers"] == ["Paris", "the"]
    assert as_questions([read])["object"].to_pylist() == ["Paris"]
