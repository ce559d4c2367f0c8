"""Whatever is in a file of facts, synonyms or questions, or in an archive, is read, or refused in clear lines."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import strategies as st

from fuzzing import TEXTS, damaged, ends_well, fresh_folder, runs_well, spoiled
from knowshift.evaluation.user_questions import read_question_file
from knowshift.facts.matching import RULES, Synonyms, contains
from knowshift.facts.schemas import FACTS
from knowshift.runtime.parquet import read_table

Fuzz = Callable[..., None]
TEMPLATES = {"topic": "home", "name": "home", "question": "Where is [X] ?", "completions": ["[X] is in"]}
ROWS = [
    {"topic": "home", "subject": "anna", "object": "Paris", "aliases": "Lutetia|City", "split": "train"},
    {"topic": "home", "subject": "bert", "object": "Rome", "aliases": "", "split": "test"},
    {"topic": "work", "subject": "carl", "object": "smith", "aliases": "", "split": ""},
]
RAW = [{"question": f"Where is {name} ?", "answers": [place]} for name, place in (("anna", "Rome"), ("bert", "Oslo"))]


def as_json(value: Any) -> bytes:
    """Write a value as JSON; lone surrogates and NaN too, which Python reads."""
    return json.dumps(value).encode()


def as_separated(rows: Any, delimiter: str) -> bytes:
    """Write rows as CSV or TSV, whatever they are."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    for row in [list(ROWS[0]), *(rows if isinstance(rows, list) else [rows])]:
        writer.writerow(row.values() if isinstance(row, dict) else row if isinstance(row, list) else [row])
    return out.getvalue().encode("utf-8", "surrogatepass")


def as_lines(rows: Any) -> bytes:
    """Write rows as JSON lines."""
    return b"\n".join(map(as_json, rows if isinstance(rows, list) else [rows]))


def as_parquet(rows: Any) -> bytes:
    """Write rows as Parquet, or nothing where they are no table."""
    out = io.BytesIO()
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return b""
    try:
        pq.write_table(pa.Table.from_pylist(rows), out)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return b""
    return out.getvalue()


FORMS: dict[str, Callable[[Any], bytes]] = {
    "csv": lambda rows: as_separated(rows, ","),
    "tsv": lambda rows: as_separated(rows, "\t"),
    "jsonl": as_lines,
    "parquet": as_parquet,
}


def build(folder: Path, *source: str) -> None:
    """Build facts, and check those that come out: distinct, with a place for each name, in the schema."""
    (folder / "home.yaml").write_text(yaml.safe_dump(TEMPLATES))
    output = folder / "out.parquet"
    arguments = [*source, "--templates", str(folder / "home.yaml"), "--domain", "in_domain", "--output", str(output)]
    if runs_well("build_facts", arguments, output):
        facts = read_table(output, FACTS).to_pylist()
        assert len({fact["fact_id"] for fact in facts}) == len(facts) > 0
        assert len({(fact["split"], fact["question"]) for fact in facts}) == len(facts)
        assert all(fact["subject"].strip() and fact["object"].strip() for fact in facts)


@pytest.mark.parametrize("form", FORMS)
def test_tables_of_facts(form: str, fuzz: Fuzz) -> None:
    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            path = folder / f"facts.{form}"
            path.write_bytes(data)
            build(folder, "--table", str(path))

    fuzz(spoiled(ROWS).map(FORMS[form]) | damaged(FORMS[form](ROWS)), check, 150)


def test_raw_questions(fuzz: Fuzz) -> None:
    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            for split in ("train", "dev", "test"):
                (folder / split).mkdir()
                (folder / split / f"home.{split}.json").write_bytes(data if split == "train" else as_json(RAW))
            build(folder, "--raw", str(folder))

    fuzz(spoiled(RAW).map(as_json) | damaged(as_json(RAW)), check, 150)


def test_synonyms(fuzz: Fuzz) -> None:
    good = b'object,synonyms\nParis,Lutetia|"City, of Light"\nThe Hague,Den Haag\n'
    rows = st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from(TEXTS)), max_size=3)

    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            (folder / "synonyms.csv").write_bytes(data)
            synonyms = ends_well(lambda: Synonyms.read([folder / "synonyms.csv"]))
            if synonyms is not None:
                names = synonyms.names("Paris")
                assert names[0] == "Paris" and all(contains(f"in {names[0]}", names, rule) for rule in RULES)

    fuzz(damaged(good) | rows.map(lambda pairs: good + as_separated([list(pair) for pair in pairs], ",")), check, 200)


def test_questions(fuzz: Fuzz) -> None:
    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            (folder / "questions.jsonl").write_bytes(data)
            rows = ends_well(lambda: read_question_file(folder / "questions.jsonl"))
            assert rows is None or (all(row["question"] and row["answers"] for row in rows) and rows)

    fuzz(spoiled(RAW).map(as_lines) | damaged(as_lines(RAW)), check, 200)


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Draw an archive of a few members with good, odd and hostile names, sometimes damaged."""
    good = [f"dataset/{split}/home.{split}.json" for split in ("train", "dev", "test")]
    odd = ["../train/home.train.json", "/train/home.train.json", "train/home.train.json/train/x.train.json", "train/"]
    names = st.sampled_from([*good, *odd, *(f"a/train/{text}.train.json" for text in TEXTS if "\ud800" not in text)])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in draw(st.lists(names, max_size=4)):
            archive.writestr(zipfile.ZipInfo(name), draw(st.just(as_json(RAW)) | st.binary(max_size=20)))
    return draw(damaged(out.getvalue())) if draw(st.booleans()) else out.getvalue()


def test_archives(fuzz: Fuzz) -> None:
    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            (folder / "inside").mkdir()
            path, output = folder / "inside/facts.zip", folder / "inside/raw"
            path.write_bytes(data)
            arguments = ["--location", str(path), "--contents-sha256", "null", "--output", str(output)]
            runs_well("retrieve_entityquestions", [*arguments, "--downloads", str(folder / "downloads")], output)
            assert path.read_bytes() == data
            assert {item.name for item in folder.iterdir()} <= {"inside", "downloads"}, "a member left the folder"

    fuzz(archives(), check, 150)
