"""Spellings that a reader cannot tell apart are one text, and what is no name of anything is refused in one line."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowshift.facts.building import build_facts
from knowshift.facts.matching import Synonyms
from knowshift.facts.question_files import read_question_files
from knowshift.facts.templates import TopicTemplates, read_prompt_template, read_topic_templates
from knowshift.facts.texts import matches_nearly_anything, problem_with_text, tidy
from knowshift.facts.user_table import FactTable
from knowshift.runtime.errors import KnowshiftError

TOPIC = TopicTemplates("T", "T", "Where is [X]?", ("[X] is in",))
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
# Spellings of "São Paulo" that look the same.
SPELLINGS = {
    "white space around": " São Paulo  ",
    "two spaces": "São  Paulo",
    "no-break space": "São\u00a0Paulo",
    "ideographic space": "São\u3000Paulo",
    "combining tilde": "Sa\u0303o Paulo",
    "zero-width space": "São\u200b Pau\u200blo",
    "zero-width before a combining tilde": "Sa\u200b\u0303o Paulo",
    "soft hyphen": "São Pau\u00adlo",
    "byte order mark": "\ufeffSão Paulo",
    "marks of direction": "\u202aSão Paulo\u202c\u200e",
    "joiners": "São\u200d Paulo\u200c",
    "word joiner": "São Pau\u2060lo",
    "line separator": "São\u2028Paulo",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings_that_look_the_same_are_one_fact(tmp_path: Path, spelling: str) -> None:
    """Asked in train and in test, it is known to be in test; given twice in a table, it is a repetition."""
    assert tidy(spelling) == "São Paulo"
    for split, subject in {"train": spelling, "dev": "X", "test": "São Paulo"}.items():
        (tmp_path / split).mkdir()
        rows = [{"question": f"Where is {subject}?", "answers": [f" Brasil\u200b{spelling}"]}]
        (tmp_path / split / f"T.{split}.json").write_text(json.dumps(rows))
    facts, counts = build_facts(TOPIC, "in_domain", {"T": read_question_files(tmp_path, TOPIC)})
    assert counts["also_in_test"] == 1 and facts["also_in_test"].to_pylist() == [True, False, False]
    assert facts["subject"].to_pylist() == ["São Paulo", "X", "São Paulo"]
    assert facts["object"].to_pylist()[0].startswith("Brasil") and "São Paulo" in facts["object"].to_pylist()[0]
    rows = [{"topic": " T", "subject": name, "object": "x", "split": "train "} for name in ("São Paulo", spelling)]
    (tmp_path / "f.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = FactTable(tmp_path / "f.jsonl").read(TOPIC, SHARES)
    assert [row.subject for row in source.rows["train"]] == ["São Paulo"]
    assert "is the same fact as" in source.problems[0] and len(source.problems) == 1


@pytest.mark.parametrize("text", ["می\u200cخواهم", "👩\u200d🚀", "क्\u200dष", "C++", "AT&T", "東京", "naïve 'x'"])
def test_what_can_be_seen_is_kept(text: str) -> None:
    assert tidy(text) == text and problem_with_text(text, "the object") is None


@given(st.text(st.one_of(st.characters(), st.sampled_from(" \t\u00a0\u200b\u200c\u200da\u0303ب\ufeff")), max_size=12))
def test_tidying_ends_in_one_form(text: str) -> None:
    once = tidy(text)
    assert tidy(once) == once and unicodedata.is_normalized("NFC", once)
    assert once == once.strip() and "  " not in once and not set(once) & set("\u00ad\u200b\u2060\ufeff\u00a0")
    assert tidy(f" {text}\n") == once


REFUSED = {
    "#REF!": "which a spreadsheet writes",
    "#N/A": "which a spreadsheet writes",
    "=#DIV/0!": "which a spreadsheet writes",
    "Where is #NAME? now": "which a spreadsheet writes",
    "#WERT!": "which a spreadsheet writes",
    "#YOLO!": None,
    "#": None,
    "Err:502": "which a spreadsheet writes",
    "########": "which a spreadsheet writes",
    "a\u0007b": "control character",
    "a\nb": "control character",
    "a\u0085b": "control character",
    "a\ud800": "half of a character",
    "Universit\ufffd": "was decoded wrongly",
    "": "is empty",
    "x" * 1001: "1,001 characters",
    "x" * 1000: None,
    "#1 hits": None,
    "C#": None,
}


@pytest.mark.parametrize(("text", "says"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_is_no_name_is_refused_in_one_line(text: str, says: str | None) -> None:
    said = problem_with_text(text, "the object")
    assert (said is None) if says is None else (says in said and len(said.splitlines()) == 1 and len(said) < 200)


@pytest.mark.parametrize("name", ["the", "The", "A", "it", "of the", "IS", "-", ".", "!?", '"the"'])
def test_names_that_nearly_any_answer_holds_are_known_as_such(tmp_path: Path, name: str) -> None:
    assert matches_nearly_anything(name)
    row = {"topic": "T", "subject": "S", "object": "x", "aliases": ["good", name]}
    (tmp_path / "f.jsonl").write_text(json.dumps(row))
    (problem,) = FactTable(tmp_path / "f.jsonl").read(TOPIC, SHARES).problems
    assert "is in nearly any answer" in problem
    quoted = name.replace('"', '""')
    (tmp_path / "s.csv").write_text(f'object,synonyms\nx,"good|{quoted}"\n')
    with pytest.raises(KnowshiftError, match=r"s\.csv, line 2: .* is in nearly any answer; remove it"):
        Synonyms.read([tmp_path / "s.csv"])


@pytest.mark.parametrize("name", ["US", "UK", "WHO", "The Who", "C", "5", "!!!", "🇫🇷", "東", "Å", "Rio de", "Thea"])
def test_other_short_names_may_be_synonyms(tmp_path: Path, name: str) -> None:
    (tmp_path / "s.csv").write_text(f"object,synonyms\nx,{name}\n", encoding="utf-8")
    assert Synonyms.read([tmp_path / "s.csv"]).names("x") == ["x", name]


SYNONYMS = [
    ("object,synonyms\nx,y,z\n", "line 2: more cells than the headings name"),
    ("object,synonyms\nx,\n", "line 2: has no object or no synonym"),
    ("object,synonyms\n,y\n", "line 2: has no object or no synonym"),
    ("object,synonyms\nx,|\u200b|\n", "line 2: has no object or no synonym"),
    ("object,synonyms\nx,#REF!\n", "line 2: '#REF!' holds #REF!"),
    ("object,synonym\nx,y\n", "has no column synonyms; it has object, synonym"),
    ("object,synonyms,synonyms\nx,y,z\n", "has the column synonyms twice"),
    ('object,synonyms\nx,"y\n', "line 2: unexpected end of data"),
    ("", "is empty"),
    ("\0", "null characters"),
]


@pytest.mark.parametrize(("content", "says"), SYNONYMS, ids=[says for _, says in SYNONYMS])
def test_a_bad_file_of_synonyms_is_named_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(KnowshiftError) as caught:
        Synonyms.read([path])
    assert says in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_synonyms_of_spreadsheets_are_read_and_tidied(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(
        "object;synonyms;\r\n;;\r\n São\u00a0Paulo;SP | Sampa\u200b;\r\n", encoding="utf-8-sig"
    )
    assert Synonyms.read([tmp_path / "s.csv"]).names("São Paulo") == ["São Paulo", "SP", "Sampa"]


TEMPLATE = "topic: {topic}\nname: {name}\nquestion: {question}\ncompletions: [{completion}]\n"
GOOD = {"topic": "T", "name": "n", "question": '"Where is [X]?"', "completion": '"[X] is in"'}
TEMPLATES = [
    ({"topic": "U"}, "topic is U, but the file is named after T"),
    ({"topic": "no"}, "YAML reads this topic as False; put its name in quotes"),
    ({"topic": "null"}, "YAML reads this topic as None; put its name in quotes"),
    ({"name": "[a]"}, "the name is list, not text"),
    ({"name": '"a\\e[2J"'}, "a control character"),
    ({"name": '"a\\nb"'}, "a control character"),
    ({"name": '""'}, "the name is empty"),
    ({"question": '"Where\\u200b is [X]?"'}, "the invisible character U[+]200B"),
    ({"question": '"Where\\a is [X]?"'}, "a control character"),
    ({"question": '"Where is [X]? \\ud800"'}, "lone surrogate"),
    ({"completion": '"[X]\\ufffd is in"'}, "decoded wrongly"),
    ({"completion": '"[X] is in "'}, "ends in white space"),
    ({"completion": '"[X] is in", "[X] is in"'}, "are the same"),
    ({"completion": ""}, "at least one template"),
    ({"completion": "3"}, "must hold"),
    ({"completion": '"[X]"'}, "holds nothing but"),
    ({"question": '" [X] "'}, "holds nothing but"),
]


@pytest.mark.parametrize(("changed", "says"), TEMPLATES, ids=[says for _, says in TEMPLATES])
def test_bad_templates_are_named_in_one_line(tmp_path: Path, changed: dict, says: str) -> None:
    path = tmp_path / "T.yaml"
    path.write_text(TEMPLATE.format(**{**GOOD, **changed}))
    with pytest.raises(KnowshiftError, match=says) as caught:
        read_topic_templates(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_question_template_is_tidied_as_questions_are(tmp_path: Path) -> None:
    path = tmp_path / "T.yaml"
    path.write_text(TEMPLATE.format(**{**GOOD, "question": '" Wo\\u00a0ist  [X]?"', "completion": '"A\\n[X] is in"'}))
    assert read_topic_templates(path).question == "Wo ist [X]?"
    assert read_topic_templates(path).completions == ("A\n[X] is in",)


def test_a_prompt_has_no_characters_that_cannot_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "prompt.yaml"
    path.write_text('prompt: "Q: {question}\\n\\u200bA:"\nanswer: " {object}"\n')
    with pytest.raises(KnowshiftError, match="invisible character"):
        read_prompt_template(path)
    path.write_text('prompt: "Q: {question}\\nA:"\nanswer: " {object}"\n')
    assert read_prompt_template(path).prompt == "Q: {question}\nA:"
