"""Facts from a table of the user's own: every kind of file, splits by hash, and what is refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knowshift.facts.building import build_facts
from knowshift.facts.templates import TopicTemplates
from knowshift.facts.user_table import FactTable, draw_split
from knowshift.runtime.errors import KnowshiftError

TOPIC = TopicTemplates("T", "T", "Where is [X]?", ("[X] is in",))
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
ROWS = [
    {"topic": "T", "subject": "A", "object": "x", "aliases": ["ex", "eks"], "split": "test", "question": None},
    {"topic": "T", "subject": "B", "object": "y, z", "aliases": [], "split": "train", "question": "What of B?"},
    {"topic": "U", "subject": "C", "object": "w", "aliases": [], "split": None, "question": None},
]


def write(folder: Path, suffix: str, rows: list[dict]) -> Path:
    path = folder / f"facts{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("\ufeff" + "\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    else:
        mark = {".csv": ",", ".tsv": "\t"}[suffix]
        lines = [mark.join(rows[0])]
        for row in rows:
            cells = ["|".join(cell) if isinstance(cell, list) else cell or "" for cell in row.values()]
            lines.append(mark.join(f'"{cell}"' if "," in cell else cell for cell in cells))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_file_gives_the_same_facts(tmp_path: Path, suffix: str) -> None:
    table = FactTable(write(tmp_path, suffix, ROWS))
    facts, counts = build_facts(TOPIC, "in_domain", {"T": table.read(TOPIC, SHARES)})
    kept = [
        {key: row[key] for key in ("split", "subject", "object", "aliases", "question")} for row in facts.to_pylist()
    ]
    assert kept == [
        {"split": "train", "subject": "B", "object": "y, z", "aliases": [], "question": "What of B?"},
        {"split": "test", "subject": "A", "object": "x", "aliases": ["ex", "eks"], "question": "Where is A?"},
    ]
    assert table.topics() == ["T", "U"] and counts["bad_rows"] == 0


def test_splits_are_drawn_by_content_in_the_shares_asked_for(tmp_path: Path) -> None:
    rows = [{"topic": "T", "subject": f"s{n}", "object": "x"} for n in range(4000)]
    table = FactTable(write(tmp_path, ".jsonl", rows))
    source = table.read(TOPIC, SHARES)
    counts = [len(source.rows[split]) for split in ("train", "dev", "test")]
    assert sum(counts) == 4000
    for count, share in zip(counts, SHARES.values(), strict=True):
        assert abs(count - 4000 * share) < 5 * (4000 * share * (1 - share)) ** 0.5  # five standard deviations
    fewer = FactTable(write(tmp_path, ".jsonl", rows[::-3])).read(TOPIC, SHARES)
    for split, members in fewer.rows.items():
        assert {row.subject for row in members} <= {row.subject for row in source.rows[split]}
    assert draw_split("T", "a", {"train": 0, "dev": 0, "test": 1}) == "test"
    assert draw_split("T", "a", {"train": 1, "dev": 0, "test": 0}) == "train"


GOOD = {"topic": "T", "subject": "A", "object": "x"}
BAD = [
    ({"topic": "T", "object": "x"}, "has no subject"),
    ({"topic": "T", "subject": "", "object": "x"}, "has no subject"),
    ({"topic": "T", "subject": " \u200b", "object": "x"}, "has no subject"),
    ({"topic": "T", "subject": "B", "object": 1}, "the object is int"),
    ({"topic": 3, "subject": "B", "object": "x"}, "has no topic that is text"),
    ({"topic": "T", "subject": "[X]", "object": "x"}, "holds the placeholder"),
    ({"topic": "T", "subject": "B", "object": "x", "split": "valid"}, "the split is 'valid'; it must be one of"),
    ({"topic": "T", "subject": "B", "object": "x", "aliases": {"a": 1}}, "aliases is dict"),
    ({"topic": "T", "subject": "B", "object": "x", "aliases": [1]}, "an alias is int"),
    ({"topic": "T", "subject": "B", "object": "x" * 10_000_000}, "10,000,000 characters"),
    ({"topic": "T", "subject": "B", "object": "#REF!"}, "which a spreadsheet writes"),
    ({"topic": "T", "subject": "B", "object": "x", "aliases": "y| the "}, "the alias 'the' is in nearly any answer"),
    ({"topic": "T", "subject": "B", "object": "x", "aliases": "['y', \"O'z\"]"}, "aliases is a list that was written"),
    ({"topic": "T", "subject": "B", "object": "x", "aliases": '["y"]'}, "with '|' between them"),
    ({"topic": "T", "subject": "B", "object": "\ud800"}, "half of a character"),
    ({"topic": "T", "subject": "A ", "object": "x", "question": " Where is  A?"}, "is the same fact as"),
    ({"topic": "T", "subject": "B", "object": "a\u0007"}, "control character"),
    ({"topic": "T", "subject": "A", "object": "x"}, "is the same fact as"),
    ({"topic": "T", "subject": "A", "object": "y"}, "with another object"),
]


@pytest.mark.parametrize(("row", "said"), BAD, ids=[said for _, said in BAD])
def test_a_bad_row_is_named_and_left_out(tmp_path: Path, row: dict, said: str) -> None:
    path = write(tmp_path, ".jsonl", [GOOD, row])
    source = FactTable(path).read(TOPIC, SHARES)
    (line,) = source.problems
    assert line.startswith(f"{path}, line 2: ") and said in line and len(line) < 1000
    assert sum(map(len, source.rows.values())) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("f.xlsx", b"x", "ends in .csv, .tsv, .jsonl, .parquet"),
        ("f.csv", b"", "is empty"),
        ("f.csv", b"topic,subject,object\n", "is empty"),
        ("f.csv", b"topic,subject,answer\nT,A,x\n", "no column object; it has answer, subject, topic"),
        ("f.csv", b"topic,subject,object,alias\nT,A,x,y\n", "has a column alias; rename it to aliases"),
        ("f.csv", b"topic,subject,object\nT,A,x,y\n", "line 2: more cells than the headings name"),
        ("f.csv", b'topic,subject,object\nT,A,"x\n', "line 2: unexpected end of data"),
        ("f.csv", b"topic,subject,object\nT,A,\xff\n", "not UTF-8"),
        ("f.jsonl", b'{"topic": "T"\n', "line 1: not valid JSON"),
        ("f.jsonl", b"[1]\n", "line 1: is list, not an object"),
        ("f.csv", b"topic,subject,object,subject\nT,A,x,B\n", "has the column subject twice"),
        ("f.csv", b"topic,subject,object,\nT,A,x,y\n", "line 2: a cell has no heading"),
        ("f.jsonl", b'{"topic": "T", "subject": "A", "subject": "B"}', "the key 'subject' is given twice"),
        ("f.jsonl", b"[" * 200_000, "line 1: nested too deeply"),
        ("f.jsonl", b'{"topic": ' + b"9" * 5000 + b"}", "line 1: holds a number of thousands of digits"),
        ("f.parquet", b"PAR1", "is not a readable Parquet file"),
        ("f.parquet", b"", "is not a readable Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KnowshiftError) as caught:
        FactTable(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name)) and said in str(caught.value)


@pytest.mark.parametrize("name", ["question_id", "Question ID", "questionUrl", "split_key", "aliases_hash", "index"])
def test_a_column_of_identifiers_is_no_misspelling(tmp_path: Path, name: str) -> None:
    """Tables of others come with such columns; they are ignored, as all but the known ones."""
    table = FactTable(write(tmp_path, ".jsonl", [{**GOOD, name: "7"}]))
    assert table.digest(["T"]) == FactTable(write(tmp_path, ".jsonl", [GOOD])).digest(["T"])


@pytest.mark.parametrize("alias", ["[y]", 'y ["z"]', "'y'", "[1] y"])
def test_names_in_brackets_are_names(tmp_path: Path, alias: str) -> None:
    source = FactTable(write(tmp_path, ".jsonl", [{**GOOD, "aliases": alias, "split": "train"}])).read(TOPIC, SHARES)
    assert not source.problems and [row.aliases for row in source.rows["train"]] == [(alias,)]


def test_a_missing_file_a_folder_and_a_missing_topic_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name, said in {"missing.csv": "does not exist", "folder.csv": "is a folder"}.items():
        with pytest.raises(KnowshiftError, match=said):
            FactTable(tmp_path / name)
    table = FactTable(write(tmp_path, ".jsonl", [GOOD]))
    with pytest.raises(KnowshiftError, match="no row of topic V; its topics are T"):
        table.read(TopicTemplates("V", "V", "Where is [X]?", ("[X] is in",)), SHARES)


def test_a_parquet_table_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    names = ["topic", "subject", "object", "subject"]
    pq.write_table(pa.Table.from_arrays([pa.array(["T"])] * 4, names=names), tmp_path / "f.parquet")
    with pytest.raises(KnowshiftError, match="has the column subject twice"):
        FactTable(tmp_path / "f.parquet")


def test_a_table_whose_rows_would_fill_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred million equal rows take some kilobytes of a file."""
    path = write(tmp_path, ".parquet", [{"topic": "T", "subject": "A", "object": "x"}] * 1001)
    assert path.stat().st_size < 3000
    monkeypatch.setattr("knowshift.runtime.parquet.MOST_ROWS", 1000)
    with pytest.raises(KnowshiftError, match="1,001 rows; at most 1,000 are read"):
        FactTable(path)


def test_the_digest_of_a_topic_knows_its_rows_only(tmp_path: Path) -> None:
    before = FactTable(write(tmp_path, ".jsonl", ROWS))
    other = [{**row, "object": "new"} if row["topic"] == "U" else row for row in ROWS]
    after = FactTable(write(tmp_path, ".jsonl", [{**row, "note": "ignored"} for row in other]))
    assert before.digest(["T"]) == after.digest(["T"]) and before.digest(["U"]) != after.digest(["U"])
    assert FactTable(write(tmp_path, ".jsonl", [*ROWS, {"subject": "?"}])).digest(["T"]) != before.digest(["T"])
