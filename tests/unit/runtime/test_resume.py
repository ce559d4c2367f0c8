"""Interrupted jobs go on where they ended and give the same bytes; two copies of one job never work side by side."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knowshift.facts.schemas import FACTS
from knowshift.runtime.parquet import write_table, write_tables
from knowshift.runtime.resumption import Chunks, resumable, write_in_chunks

REPOSITORY = Path(__file__).parents[3]
SCHEMA = pa.schema([pa.field("a", pa.int64(), False)])


def parts(count: int = 5) -> list[pa.Table]:
    return [pa.table({"a": pa.array(range(3 * n, 3 * n + 3), pa.int64())}, schema=SCHEMA) for n in range(count)]


def test_a_job_goes_on_after_its_last_finished_chunk(tmp_path: Path) -> None:
    made = []

    def make(part: pa.Table, tick, until: int = 99) -> pa.Table:
        if len(made) == until:
            raise KeyboardInterrupt
        made.append(part["a"][0].as_py())
        return part

    output = tmp_path / "t.parquet"
    with pytest.raises(KeyboardInterrupt):
        write_in_chunks(output, {"x": 1}, SCHEMA, parts(), lambda part, tick: make(part, tick, 3), "rows")
    assert not output.exists() and made == [0, 3, 6]
    write_in_chunks(output, {"x": 1}, SCHEMA, parts(), make, "rows")
    assert made == [0, 3, 6, 9, 12]
    whole = tmp_path / "whole.parquet"
    write_table(whole, pa.concat_tables(parts()), SCHEMA)
    assert output.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".*.unfinished"))


def test_chunks_of_another_key_are_discarded(tmp_path: Path) -> None:
    output = tmp_path / "t.parquet"
    with pytest.raises(RuntimeError), resumable(output, {"x": 1}) as folder:
        Chunks(folder, SCHEMA).save(0, parts()[0])
        raise RuntimeError
    with pytest.raises(RuntimeError), resumable(output, {"x": 1}) as folder:
        assert Chunks(folder, SCHEMA).missing(3) == [1, 2]
        raise RuntimeError
    with pytest.raises(RuntimeError), resumable(output, {"x": 2}) as folder:
        assert Chunks(folder, SCHEMA).missing(3) == [0, 1, 2]
        raise RuntimeError


def test_bytes_do_not_depend_on_how_rows_are_cut(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(range(150_000), pa.int64())}, schema=SCHEMA)
    for name, size in {"one": 150_000, "small": 777, "large": 70_000}.items():
        write_tables(tmp_path / name, (table.slice(start, size) for start in range(0, len(table), size)), SCHEMA)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "small").read_bytes() == (tmp_path / "large").read_bytes()
    assert pq.read_table(tmp_path / "one")["a"].to_pylist() == list(range(150_000))


@pytest.fixture
def probing(tiny_model: Path, tiny_facts: Path, tmp_path: Path) -> list[str]:
    """A probe of 60 facts in 30 chunks."""
    rows = [
        {
            "fact_id": f"f{n}",
            "topic": "home",
            "domain": "in_domain",
            "split": "train",
            "subject": f"hometrain{n % 40}",
            "object": "Rome",
            "aliases": [],
            "question": f"q{n}",
            "also_in_test": False,
        }
        for n in range(60)
    ]
    write_table(tmp_path / "facts.parquet", pa.Table.from_pylist(rows, schema=FACTS), FACTS)
    return [
        sys.executable,
        str(REPOSITORY / "scripts/probe_mastery.py"),
        "--model",
        str(tiny_model),
        "--facts",
        str(tmp_path / "facts.parquet"),
        "--templates",
        str(tiny_facts / "templates"),
        "--templates-used",
        "2",
        "--samples",
        "40",
        "--max-new-tokens",
        "6",
        "--tokens-per-pass",
        "8",
        "--threads",
        "1",
        "--chunk",
        "160",
    ]


def chunks_of(output: Path) -> list[Path]:
    return sorted(output.parent.glob(f".{output.name}.unfinished/*.parquet"))


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_probe_goes_on_and_gives_the_same_bytes(probing: list[str], tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed.parquet", tmp_path / "whole.parquet"
    with subprocess.Popen([*probing, "--output", str(killed)], stderr=subprocess.PIPE) as process:
        wait_for(lambda: len(chunks_of(killed)) >= 3)
        process.send_signal(signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in chunks_of(killed)}
    assert 3 <= len(before) < 30 and not killed.exists()
    for output, more in ((killed, []), (whole, ["--threads", "2", "--chunk", "1000"])):
        done = subprocess.run([*probing, "--output", str(output), *more], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    assert killed.read_bytes() == whole.read_bytes()
    assert pq.read_metadata(killed).num_rows == 60 * 2 * 40
    assert not chunks_of(killed)


@pytest.mark.slow
def test_a_second_copy_waits_and_finds_the_work_done(probing: list[str], tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    command = [*probing, "--output", str(output), "--code", "1"]
    copies = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [copy.communicate()[1] for copy in copies]
    assert [copy.returncode for copy in copies] == [0, 0], said
    assert sum("has been made by another copy" in text for text in said) == 1
    assert pq.read_metadata(output).num_rows == 60 * 2 * 40


@pytest.mark.slow
def test_any_model_answers_any_questions(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [
        {"question": "Where does hometrain4 live ?", "answers": ["Rome", "Oslo"]},
        {"question": "What ?", "answers": ["x"]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    script = str(REPOSITORY / "scripts/evaluate.py")
    command = [sys.executable, script, "--model", str(tiny_model), "--questions", str(path)]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "a.parquet")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["question"] for row in table] == [row["question"] for row in rows]
    assert all(row["gold_logprob"] < 0 and len(row["first_logits"]) > 10 for row in table)
    assert "2 questions, answered right: whole_words" in done.stderr
    for answers in ([], "Rome", [" "]):
        path.write_text(json.dumps({"question": "x", "answers": answers}))
        refused = [*command, "--output", str(tmp_path / "b.parquet")]
        done = subprocess.run(refused, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "line 1: must be" in done.stderr
