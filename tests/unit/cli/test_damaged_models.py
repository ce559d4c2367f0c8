"""Every script that takes a model, or the delta of one, ends in one line where it is damaged, and makes nothing."""

import json
import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from architectures import make
from damaged import FILES

from cli.command_line import run
from knowshift.facts.schemas import FACTS
from knowshift.runtime.artefacts import whole_directory
from knowshift.runtime.parquet import write_table
from knowshift.weights.deltas import diff_weights
from knowshift.weights.model_folder import SINGLE


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    make("llama").save_pretrained(folder)
    return folder


SCRIPTS = {
    "evaluate": "--model {bad} --questions {questions} --output {out}",
    "evaluate, delta": "--model {good} --questions {questions} --delta {bad} --output {out}",
    "probe_mastery": "--model {bad} --facts {facts} --templates {templates} --output {out}",
    "diff_weights": "--base {bad} --tuned {good} --output {out}",
    "diff_weights, tuned": "--base {good} --tuned {bad} --output {out}",
    "measure_changes": "--base {bad} --tuned {good} --histogram {out} --tensors {out}.tensors",
    "measure_changes, delta": "--base {good} --delta {bad} --histogram {out} --tensors {out}.tensors",
    "select_updates": "--base {good} --tuned {bad} --output {out}",
    "select_updates, delta": "--base {good} --delta {bad} --output {out}",
    "export_model": "--base {bad} --tuned {good} --percent 20 --output {out}",
    "export_model, delta": "--base {good} --delta {bad} --percent 20 --output {out}",
}


@pytest.mark.parametrize("kind", ["no dtype", "offsets overlap", "2^62 elements", "cut short"])
@pytest.mark.parametrize("command", SCRIPTS)
def test_every_script_that_takes_a_model_ends_in_one_line(
    command: str,
    kind: str,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = Path(shutil.copytree(saved, tmp_path / "model"))
    (bad / SINGLE).write_bytes(FILES[kind])
    if "--delta {bad}" in SCRIPTS[command]:
        bad = tmp_path / "delta"
        about = {"kind": "delta", **stated(saved, tmp_path)}
        with whole_directory(bad, about) as folder:
            (folder / "delta-00001.safetensors").write_bytes(FILES[kind])
    (tmp_path / "questions.jsonl").write_text('{"question": "Where ?", "answers": ["here"]}\n')
    places = {
        "bad": bad,
        "good": saved,
        "questions": tmp_path / "questions.jsonl",
        "facts": tmp_path / "facts.parquet",
        "templates": tmp_path / "templates",
        "out": tmp_path / "out",
    }
    make_facts(tmp_path)
    words = [word.format(**places) for word in SCRIPTS[command].split()]
    name = command.partition(",")[0]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(tmp_path.iterdir())
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            run(import_module(name).main)
    finally:
        signal.signal(signal.SIGTERM, handler)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1 and lines[-1].startswith("error: ") and str(bad) in lines[-1], lines
    assert {path for path in tmp_path.iterdir() if not path.name.startswith(".")} <= before  # nothing is half made


def stated(saved: Path, folder: Path) -> dict[str, Any]:
    """What the manifest of a delta to the tiny model states."""
    (folder / "scratch").mkdir()
    return diff_weights(saved, saved, folder / "scratch")


def make_facts(folder: Path) -> None:
    """Write a table of one fact, and the templates of its topic."""
    row = {field.name: "x" for field in FACTS}
    row |= {"topic": "home", "split": "train", "aliases": ["x"], "also_in_test": False}
    write_table(folder / "facts.parquet", pa.Table.from_pylist([row], FACTS), FACTS)
    (folder / "templates").mkdir()
    (folder / "templates/home.yaml").write_text(
        "topic: home\nname: home\nquestion: Where does [X] live ?\ncompletions: "
        + json.dumps([f"{number} [X] lives in" for number in range(21)])
    )
