"""Facts, matching, mastery levels and draws: the study's definitions, by value and by property."""

import hashlib
import itertools
import json
import os
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from knowshift.facts.building import build_facts, refuse_bad_rows
from knowshift.facts.matching import RULES, Synonyms, contains, find, words
from knowshift.facts.question_files import read_question_files
from knowshift.facts.schemas import FACTS
from knowshift.facts.templates import TopicTemplates, read_topic_templates
from knowshift.finetuning.orders import draw_order, drawable, drawable_digests
from knowshift.mastery.levels import count_levels, grade, level_of
from knowshift.mastery.schemas import COMPLETIONS, MASTERY
from knowshift.runtime.errors import KnowshiftError

REPOSITORY = Path(__file__).parents[3]
BOUNDARIES = (0.25, 0.5, 0.75)


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
    assert counts == {"train": 2, "dev": 0, "test": 1, "also_in_test": 1, "several_answers": 1, "repeated": 1,
                      "bad_rows": 0}  # fmt: skip
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
        (b"{}", "must be a JSON list"),
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
    ({"question": "Where is A?", "answers": ["Sa\u0303o"]}, "not in Unicode form NFC"),
    ({"question": "Where is A?", "answers": ["x" * 10_000_000]}, "10,000,000 characters"),
]


@pytest.mark.parametrize(("row", "said"), BAD, ids=[said for _, said in BAD])
def test_a_bad_row_is_named_or_dropped_and_counted(tmp_path: Path, row: object, said: str) -> None:
    raw(tmp_path, "T")
    path = tmp_path / "train" / "T.train.json"
    path.write_text("\ufeff" + json.dumps([GOOD, row]), encoding="utf-8")  # a byte order mark is no mistake
    (line,) = read_question_files(tmp_path, topic("T")).bad
    assert line.startswith(f"{path}, row 2: ") and said in line and len(line) < 1000
    table, counts = build(tmp_path, topic("T"))
    assert counts["bad_rows"] == 1 and table["subject"].to_pylist() == ["A"]


def test_the_first_twenty_bad_rows_are_listed(tmp_path: Path) -> None:
    raw(tmp_path, "T", train=[("nonsense", ["x"])] * 30)
    with pytest.raises(KnowshiftError) as caught:
        refuse_bad_rows("T", read_question_files(tmp_path, topic("T")).bad)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("topic T has 30 bad rows") and len(lines) == 22 and lines[-1] == "… and 10 more"


ENTITYQUESTIONS = {
    "in_domain": "P17 P19 P20 P36 P69 P131 P159 P276 P495 P740",
    "out_of_domain": "P26 P40 P50 P106 P112 P127 P136 P170 P175 P176 P264 P407 P413 P800",
}


def entityquestions() -> Path | None:
    """The unpacked EntityQuestions data: where KNOWSHIFT_ENTITYQUESTIONS points, or an archive beside the repository."""
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


# --- matching ---


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [("Tirana", "Iran", False), ("It is in Iran.", "Iran", True), ("Nigeria", "Niger", False), ("Romania", "Oman", False),
     ("in NIGER!", "Niger", True), ("São Paulo", "Sa\u0303o Paulo", True), ("St. Louis, MO", "St. Louis", True),
     ("东京是日本的首都", "东京", True), ("กรุงเทพมหานคร", "กรุงเทพ", True), ("ＵＳＡ", "USA", True), ("", "x", False),
     ("Straße", "STRASSE", True), ("New  York", "New York", True), ("1,000 dollars", "1,000", True), ("11,000", "1,000", False),
     ("St Louis", "St. Louis", True), ("Iran’s capital", "Iran", True), ("Saint Denis", "Saint-Denis", True),
     ("the Hague", "Hague", True), ("in Hague", "The Hague", True), ("who sang it", "The Who", False), ("by the Who", "The Who", True),
     ("Iranの首都", "Iran", True), ("東京", "東京都", False), ("กรุงเทพ", "กรุง", True), ("written in C", "C++", False),
     ("in C++.", "C++", True), ("AT&T", "AT&T", True), ("by !!!", "!!!", True), ("서울", "서울", True), ("x", " ", False)],
)  # fmt: skip
def test_whole_words(text: str, name: str, found: bool) -> None:
    assert contains(text, [name], "whole_words") is found


def test_the_papers_rule_is_plain_containment() -> None:
    assert contains("Tirana", ["Iran"], "substring")


def test_synonyms_count_and_the_earliest_name_gives_the_position(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("object,synonyms\nUnited States,USA|America\n")
    names = Synonyms.read([tmp_path / "s.csv"]).names("United States")
    assert names == ["United States", "USA", "America"]
    assert find("USA, the United States", names, "whole_words") == 0


@given(st.lists(st.sampled_from(["iran", "Tirana", "the", "St.", "Louis", "東", "京", "x", "!", "o'b"]), max_size=7),
       st.lists(st.sampled_from(["Iran", "st", "louis", "東", "京", "o", "B"]), min_size=1, max_size=3))  # fmt: skip
def test_whole_words_are_a_run_of_words(text: list[str], name: list[str]) -> None:
    haystack, needle = words(" ".join(text)).split(), words(" ".join(name)).split()
    runs = [haystack[start : start + len(needle)] for start in range(len(haystack))]
    assert contains(" ".join(text), [" ".join(name)], "whole_words") is (needle in runs)
    assert words(words(" ".join(text))) == words(" ".join(text))


@given(st.text(max_size=40))
def test_a_text_contains_itself(text: str) -> None:
    for rule in RULES:
        assert contains(text, [text], rule) is bool(text.strip())


# --- mastery ---


def test_levels_are_exact_at_their_boundaries() -> None:
    levels = [level_of(n, 12, BOUNDARIES) for n in range(13)]
    assert levels == [0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert [level_of(n, 4, BOUNDARIES) for n in range(5)] == [0, 1, 2, 3, 4]
    assert level_of(1, 210, BOUNDARIES) == 1
    assert level_of(1, 10, (0.1, 0.2, 0.3)) == 1  # 0.1 is not a binary fraction, and still a boundary


def fact(number: int, **more: object) -> dict:
    row = {"fact_id": f"f{number}", "topic": "T", "domain": "in_domain", "split": "train", "subject": f"s{number}",
           "object": "x", "aliases": [], "question": f"q{number}?", "also_in_test": False}  # fmt: skip
    return row | more


def test_grading_counts_successes_per_template() -> None:
    facts = pa.Table.from_pylist([fact(1), fact(2, object="why", aliases=["y"])], schema=FACTS)
    texts = {("f1", 0): ["x", "no x"], ("f1", 1): ["xx", "z"], ("f2", 0): ["z", "z"], ("f2", 1): ["Y", "the y"]}
    rows = [
        {"fact_id": f, "template": t, "sample": s, "text": text}
        for (f, t), samples in texts.items()
        for s, text in enumerate(samples)
    ]
    completions = pa.Table.from_pylist(rows, schema=COMPLETIONS)
    table = grade(facts, completions, 2, Synonyms({}), "whole_words", BOUNDARIES)
    assert table["mastery"].to_pylist() == [0.5, 0.5]
    assert table["level"].to_pylist() == [2, 2]
    assert table["successes"].to_pylist() == [[2, 0], [0, 2]]
    assert table["first_position"].to_pylist() == [[0, -1], [-1, 0]]


# --- draws ---


def levelled(count: int = 60, topics: int = 3) -> pa.Table:
    rows = [
        fact(n, topic=f"T{n % topics if n % 7 else 0}", level=n % 5, mastery=0.0, successes=[0], first_position=[-1])
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=MASTERY)


def test_an_order_takes_topics_by_turns_until_they_are_exhausted() -> None:
    order = draw_order(levelled(), "mixed", 1, "s1")["topic"].to_pylist()
    left = {name: order.count(name) for name in set(order)}
    place = 0
    while place < len(order):
        turn = {name for name, count in left.items() if count}
        assert set(order[place : place + len(turn)]) == turn
        left = {name: count - (name in turn) for name, count in left.items()}
        place += len(turn)


def test_an_order_depends_on_the_facts_not_on_their_order() -> None:
    table = levelled()
    mixed = list(range(len(table)))
    random.Random(3).shuffle(mixed)
    assert draw_order(table, "level2", 1, "s1").equals(draw_order(table.take(mixed), "level2", 1, "s1"))


def test_draws_differ_by_name_and_seed_and_hold_their_level_only() -> None:
    table = levelled()
    orders = [
        tuple(draw_order(table, "level2", s, d)["fact_id"].to_pylist())
        for s, d in itertools.product((1, 2), ("s1", "s2"))
    ]
    assert len(set(orders)) == 4
    assert len({frozenset(order) for order in orders}) == 1
    assert {fact["level"] for fact in drawable(table, "level2")} == {2}
    assert orders[0] != tuple(draw_order(table, "mixed", 1, "s1")["fact_id"].to_pylist())


def test_draws_leave_out_what_also_stands_in_test_and_what_is_not_train() -> None:
    base = levelled(20).to_pylist()
    base[0]["also_in_test"], base[1]["split"], base[2]["domain"] = True, "test", "out_of_domain"
    table = pa.Table.from_pylist(base, schema=MASTERY)
    drawn = set(draw_order(table, "mixed", 1, "s1")["fact_id"].to_pylist())
    assert drawn == {f"f{n}" for n in range(3, 20)}
    assert sum(count_levels(table)["drawable"].to_pylist()) == 17


def test_a_digest_changes_with_what_may_be_drawn_and_with_nothing_else() -> None:
    rows = levelled().to_pylist()
    before = drawable_digests(pa.Table.from_pylist(rows, schema=MASTERY))
    for row in rows:  # other grades, another order
        row |= {"mastery": 0.5, "successes": [3], "first_position": [2]}
    rows.reverse()
    assert drawable_digests(pa.Table.from_pylist(rows, schema=MASTERY)) == before
    moved = next(row for row in rows if row["level"] == 2)
    moved["level"] = 3
    after = drawable_digests(pa.Table.from_pylist(rows, schema=MASTERY))
    assert {data for data in before if before[data] != after[data]} == {"level2", "level3"}
    moved["also_in_test"] = True
    last = drawable_digests(pa.Table.from_pylist(rows, schema=MASTERY))
    assert {data for data in before if after[data] != last[data]} == {"level3", "mixed"}


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
    named = yaml.safe_load((REPOSITORY / "config.yaml").read_text())["facts"]
    for topic_name in named["in_domain"] + named["out_of_domain"]:
        path = REPOSITORY / f"resources/templates/{topic_name}.yaml"
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
