"""The file of a task's examples is read as it is meant, or named in one line; each example has its half for good."""

import json
import random
from pathlib import Path

import pytest

from knowshift.facts.task_examples import Example, check_halves, read_examples
from knowshift.runtime.errors import KnowshiftError

USER, REPLY = {"role": "user", "content": "Refund?"}, {"role": "assistant", "content": "Yes."}
BAD = [
    ("", "is empty"),
    (" \n", "is empty"),
    ("3", "line 1: must be"),
    ("{", "line 1: not valid JSON"),
    ('{"expected": "x"}', "line 1: must be"),
    (json.dumps({"prompt": "a", "messages": [USER], "expected": "x"}), "line 1: must be"),
    ('{"prompt": "", "expected": "x"}', "line 1: prompt must be a text"),
    ('{"prompt": 3, "expected": "x"}', "line 1: prompt must be a text"),
    ('{"prompt": "a"}', "line 1: expected must be a text"),
    ('{"prompt": "a", "expected": []}', "line 1: expected must be a text"),
    ('{"prompt": "a", "expected": ["x", " "]}', "line 1: expected must be a text"),
    ('{"prompt": "a", "expected": ["x", "\\u200b"]}', "line 1: expected must be a text"),
    ('{"messages": [], "expected": "x"}', "line 1: messages must be a list"),
    ('{"messages": "Refund?", "expected": "x"}', "line 1: messages must be a list"),
    ('{"messages": [{"role": "bot", "content": "a"}], "expected": "x"}', "line 1: each of the messages"),
    ('{"messages": [{"role": "user", "content": ["a"]}], "expected": "x"}', "line 1: each of the messages"),
    ('{"messages": ["a"], "expected": "x"}', "line 1: each of the messages"),
    (json.dumps({"messages": [REPLY], "expected": "x"}), "line 1: messages must end"),
    (json.dumps({"messages": [{"role": "system", "content": "a"}], "expected": "x"}), "line 1: messages must end"),
    (json.dumps({"messages": [USER]}), "line 1: expected must be a text"),
    ('{"prompt": "a\\ud800", "expected": "x"}', "line 1: 'a\\ud800' holds half of a character"),
    ('{"prompt": "a", "expected": "x"}\n{"prompt"', "line 2: not valid JSON"),
]


@pytest.mark.parametrize(("content", "says"), BAD, ids=range(len(BAD)))
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text(content)
    with pytest.raises(KnowshiftError) as caught:
        read_examples(path)
    said = str(caught.value)
    assert str(path) in said and says in said and "\n" not in said and len(said) < 400


def test_both_forms_are_read_and_texts_stay_as_they_are(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Q: Refund?\nA:", "expected": " yes", "id": 7},
        {"messages": [{"role": "system", "content": "Be kind."}, USER], "expected": ["yes", "of course"]},
        {"messages": [USER, REPLY]},
        {"messages": [USER, REPLY], "expected": "no"},
    ]
    (tmp_path / "t.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows))
    asked = ("user", "Refund?")
    assert read_examples(tmp_path / "t.jsonl") == [
        Example(1, "Q: Refund?\nA:", (" yes",)),
        Example(3, (("system", "Be kind."), asked), ("yes", "of course")),
        Example(5, (asked,), ("Yes.",)),
        Example(7, (asked,), ("no",)),
    ]


def test_a_half_depends_on_what_is_asked_and_on_the_seed_alone() -> None:
    examples = [Example(line, f"question {line}", ("a",)) for line in range(1, 401)]
    halves = {example.asked: example.half(1) for example in examples}
    assert 150 < list(halves.values()).count("dev") < 250
    shuffled = random.Random(1).sample(examples, 100)
    assert all(Example(9, one.asked, ("other",)).half(1) == halves[one.asked] for one in shuffled)
    assert any(example.half(2) != halves[example.asked] for example in examples)
    check_halves(examples, 1)
    with pytest.raises(KnowshiftError, match=r"all of its 2 examples fall into the half (dev|test).*; add examples"):
        check_halves([examples[0], examples[0]], 1)
