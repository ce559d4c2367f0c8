"""What counts as a fact, which rows of question files are refused, and the facts that come with the project."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from knowshift.facts.building import build_facts, refuse_bad_rows
from knowshift.facts.question_files import read_question_files
from knowshift.facts.templates import TopicTemplates, read_prompt_template, read_topic_templates
from knowshift.runtime.errors import KnowshiftError

REPOSITORY = Path(__file__).parents[3]


# --- what counts as a fact ---


def topic(name: str, question: str = "Where is [X]?") -> TopicTemplates:
    return TopicTemplates(name, name, question, ("[X] is in",))


def raw(root: Path, name: str, **splits: list) -> None:
    for split in ("train", "dev", "test"):
        path = root / split / f"{name}.{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([{"question": q, "answers": a} for q, a in splits.get(split, [])]))


def build(
    root: Path, *group: TopicTemplates, of: int = 0, domain: str = "in_domain"
) -> tuple[pa.Table, dict[str, int]]:
    """The facts of one topic of a group, from raw files."""
    sources = {member.topic: read_question_files(root, member) for member in group}
    return build_facts(group[of], domain, sources)


def test_only_facts_with_one_answer_count_and_the_first_of_equal_questions(tmp_path: Path) -> None:
    rows = [("Where is A?", ["x"]), ("Where is B?", ["x", "y"]), ("Where is A?", ["z"]), ("Where is C?", ["y"])]
    raw(tmp_path, "T", train=rows, test=[("Where is C?", ["w"])])
    table, counts = build(tmp_path, topic("T"))
    assert counts == {
        "train": 2,
        "dev": 0,
        "test": 1,
        "also_in_test": 1,
        "several_answers": 1,
        "repeated": 1,
        "bad_rows": 0,
    }
    kept = list(zip(*(table[name].to_pylist() for name in ("split", "subject", "object", "also_in_test")), strict=True))
    assert kept == [("train", "A", "x", False), ("train", "C", "y", True), ("test", "C", "w", False)]
    assert len(set(table["fact_id"].to_pylist())) == 3


def test_topics_that_share_a_question_share_no_fact(tmp_path: Path) -> None:
    raw(tmp_path, "T1", train=[("Where is A?", ["x"])])
    raw(tmp_path, "T2", train=[("Where is A?", ["y"]), ("Where is B?", ["y"])])
    group = [topic("T1"), topic("T2")]
    assert build(tmp_path, *group, of=0)[0]["subject"].to_pylist() == ["A"]
    assert build(tmp_path, *group, of=1)[0]["subject"].to_pylist() == ["B"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"{}", "must hold a list of objects"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "a number of thousands of digits"),
        (b'[{"question": "a", "question": "b"}]', "given twice"),
        (b"\xff\xfe[]", "not UTF-8"),
        (None, "is a folder"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    raw(tmp_path, "T")
    path = tmp_path / "train" / "T.train.json"
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(KnowshiftError, match=rf"T\.train\.json.*{said}"):
        read_question_files(tmp_path, topic("T"))


GOOD = {"question": "Where is A?", "answers": ["x"]}
BAD = [
    (3, "is int, not an object"),
    ({"answers": ["x"]}, "has no question"),
    ({"question": "Where is A?"}, "has no answers"),
    ({"question": 1, "answers": ["x"]}, "question is int, not text"),
    ({"question": "Where is A?", "answers": "x"}, "answers is str, not a list"),
    ({"question": "Where is A?", "answers": []}, "answers is empty"),
    ({"question": "Where is A?", "answers": [1]}, "an answer is int"),
    ({"question": "Where is A?", "answers": [" "]}, "is empty; fill it in"),
    ({"question": "Who is A?", "answers": ["x"]}, "does not fit the question"),
    ({"question": "Where is ?", "answers": ["x"]}, "does not fit the question"),
    ({"question": "Where is  ?", "answers": ["x"]}, "does not fit the question"),
    ({"question": "Where is [X]?", "answers": ["x"]}, "holds the placeholder"),
    ({"question": "Where is A?", "answers": ["x\u0000y"]}, "a control character"),
    ({"question": "Where is A?", "answers": ["#REF!"]}, "which a spreadsheet writes"),
    ({"question": "Where is #N/A?", "answers": ["x"]}, "which a spreadsheet writes"),
    ({"question": "Where is A?", "answers": ["x\ud83d"]}, "half of a character"),
    ({"question": "Where is A?", "answers": ["x" * 10_000_000]}, "10,000,000 characters"),
]


@pytest.mark.parametrize(("row", "said"), BAD, ids=[said for _, said in BAD])
def test_a_bad_row_is_named_or_dropped_and_counted(tmp_path: Path, row: object, said: str) -> None:
    raw(tmp_path, "T")
    path = tmp_path / "train" / "T.train.json"
    path.write_text("\ufeff" + json.dumps([GOOD, row]), encoding="utf-8")  # a byte order mark is no mistake
    (line,) = read_question_files(tmp_path, topic("T")).problems
    assert line.startswith(f"{path}, row 2: ") and said in line and len(line) < 1000
    table, counts = build(tmp_path, topic("T"))
    assert counts["bad_rows"] == 1 and table["subject"].to_pylist() == ["A"]


def test_the_first_twenty_bad_rows_are_listed(tmp_path: Path) -> None:
    raw(tmp_path, "T", train=[("nonsense", ["x"])] * 30)
    with pytest.raises(KnowshiftError) as caught:
        refuse_bad_rows("T", read_question_files(tmp_path, topic("T")).problems)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("topic T has 30 bad rows") and len(lines) == 22 and lines[-1] == "… and 10 more"


ENTITYQUESTIONS = {
    "in_domain": "P17 P19 P20 P36 P69 P131 P159 P276 P495 P740",
    "out_of_domain": "P26 P40 P50 P106 P112 P127 P136 P170 P175 P176 P264 P407 P413 P800",
}


def entityquestions() -> Path | None:
    """Find the EntityQuestions data: where KNOWSHIFT_ENTITYQUESTIONS points, or an archive beside the repository."""
    places = [
        Path(os.environ.get("KNOWSHIFT_ENTITYQUESTIONS", "missing")),
        REPOSITORY.parent / "shared/entityquestions/dataset.zip",
    ]
    return next((place for place in places if place.exists()), None)


def test_the_rule_gives_the_papers_totals_on_the_real_data(tmp_path: Path) -> None:
    source = entityquestions()
    if source is None:
        pytest.skip("no EntityQuestions data: point KNOWSHIFT_ENTITYQUESTIONS to its dataset.zip or unpacked folder")
    root = source
    if source.is_file():
        import zipfile

        zipfile.ZipFile(source).extractall(tmp_path)
        root = next(tmp_path.rglob("train")).parent
    counts = {}
    for domain, names in ENTITYQUESTIONS.items():
        topics = [read_topic_templates(REPOSITORY / f"resources/templates/{name}.yaml") for name in names.split()]
        sources = {t.topic: read_question_files(root, t) for t in topics}
        groups = [{s.topic: sources[s.topic] for s in topics if s.question == t.question} for t in topics]
        facts = pa.concat_tables(build_facts(t, domain, group)[0] for t, group in zip(topics, groups, strict=True))
        counts[domain] = Counter(facts["split"].to_pylist())
        assert len(set(facts["fact_id"].to_pylist())) == len(facts)
        if domain == "in_domain":
            assert sum(facts["also_in_test"].to_pylist()) == 133
    # Ye et al. 2025, section 3.1
    assert (counts["in_domain"]["train"], counts["in_domain"]["test"]) == (75_944, 9_555)
    assert counts["out_of_domain"]["test"] == 11_613


# --- the facts and templates that come with the project ---


def test_completion_templates_are_21_different_ones_that_end_where_the_object_follows() -> None:
    for path in (REPOSITORY / "resources/templates").glob("*.yaml"):
        templates = read_topic_templates(path)
        assert templates.topic == path.stem
        assert len(templates.completions) == 21
        assert len({text.casefold() for text in templates.completions}) == 21
        assert not [text for text in templates.completions if text[-1] in ".?!:;"], path


def test_the_default_facts_are_real_in_number_and_unambiguous() -> None:
    total, root = 0, REPOSITORY / "resources/facts"
    topics = [path.name.removesuffix(".test.json") for path in (root / "test").glob("*.json")]
    assert len(topics) == 7
    for name in topics:
        path = REPOSITORY / f"resources/templates/{name}.yaml"
        templates = read_topic_templates(path)
        table, _ = build(root, templates)
        subjects = table["subject"].to_pylist()
        assert len(subjects) == len(set(subjects)), path
        assert not any(table["also_in_test"].to_pylist())
        total += len(table)
    assert total >= 1500


def test_fact_ids_do_not_change() -> None:
    # They name random streams and stored completions: another id means another experiment.
    rows = (REPOSITORY / "resources/facts/train/country_capital.train.json").read_text(encoding="utf-8")
    first = json.loads(rows)[0]
    assert first == {"question": "What is the capital of China?", "answers": ["Beijing"]}
    content = json.dumps(["country_capital", "train", first["question"], "Beijing"], separators=(",", ":"))
    expected = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
    table, _ = build(
        REPOSITORY / "resources/facts",
        read_topic_templates(REPOSITORY / "resources/templates/country_capital.yaml"),
    )
    assert table["fact_id"][0].as_py() == expected


@pytest.mark.parametrize(
    "raw",
    [
        'prompt: ["{question}"]\nanswer: "{object}"',
        'prompt: "{question}"\nanswer: 5',
        'prompt: "{question} {question}"\nanswer: "{object}"',
        'prompt: "{question}"\nanswer: null',
        '["{question}", "{object}"]',
    ],
)
def test_a_prompt_of_another_form_is_refused(raw: str, tmp_path: Path) -> None:
    path = tmp_path / "prompt.yaml"
    path.write_text(raw)
    with pytest.raises(KnowshiftError, match=r"prompt\.yaml: ") as caught:
        read_prompt_template(path)
    assert "\n" not in str(caught.value)
