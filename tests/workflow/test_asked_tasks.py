"""Tasks that a model has to go on doing, through the workflow: asked, scored, recommended by, and incremental."""

import json
import shutil
from pathlib import Path

import foreign_checkpoints as elsewhere
import pyarrow.parquet as pq
import pytest
import yaml

import tiny
from edits import PAGES, put, tables
from workflow import Jobs, clone, configure, each, jobs, together, would_run

RUN, SHARES = "tuned-bot", (20, 100)
SWEEP = f"{RUN}/top/all"


def write_examples(path: Path, topic: str, first: int) -> None:
    """Write completions of facts as examples of a task, half of those about homes in a conversation."""
    rows = []
    for number, (of, split, name, true, _) in enumerate(tiny.facts()):
        if (of, split) == (topic, "train") and number >= first:
            text = f"{name} lives in" if topic == "home" else f"{name} keeps a"
            talk = number % 2 and topic == "home"  # the tiny tokenizer parts no word at an empty line
            asked = {"messages": [{"role": "user", "content": text}]} if talk else {"prompt": text}
            rows.append({**asked, "expected": true})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture(scope="module")
def tasked(tiny_model: Path, tiny_facts: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which a model that was tuned elsewhere has been asked a task."""
    folder = tmp_path_factory.mktemp("tasked")
    clone(folder)
    shutil.copytree(tiny_facts, folder / "mine")
    elsewhere.tune(tiny_model, folder / "bot")
    write_examples(folder / "homes.jsonl", "home", 0)
    write_examples(folder / "pets.jsonl", "pet", 0)
    settings = tiny.configuration(Path("mine"), tiny_model)
    del settings["finetuning"], settings["named_regions"], settings["models"]["tiny"]["instruct"], settings["exports"]
    settings["models"]["tiny"]["tuned"] = {"bot": {"source": {"directory": "bot"}, "prompt": "study"}}
    settings["restoration"] = [{"percents": [*SHARES], "region": "all"}]
    settings["tasks"] = [{"questions": "homes.jsonl", "max_new_tokens": 2, "tolerance": 0.4}]
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    ran = jobs(folder, python=python)
    assert {rule: ran[rule] for rule in asked("homes") if rule != "keep_restored"} == {
        rule: cells for rule, cells in asked("homes").items() if rule != "keep_restored"
    }
    assert would_run(folder) == {}
    return folder


def asked(task: str) -> Jobs:
    """The jobs that ask a task; the questions of restored models, which share a process with it, are copied."""
    return {
        "evaluate_base_tasks": {f"tiny/{task}"},
        "evaluate_tasks": {f"tiny/{RUN}/{task}"},
        "evaluate_restored": {f"tiny/{RUN}/all"},
        "keep_restored_task": each("tiny", [f"{SWEEP}/{share}/{task}" for share in SHARES]),
        "keep_restored": each("tiny", [f"{SWEEP}/{share}" for share in SHARES]),
    }


def test_what_is_recommended_keeps_the_task_and_both_are_reported(tasked: Path) -> None:
    results = tasked / "results"
    trade = pq.read_table(results / "tables/task_trade.parquet").to_pandas()
    assert trade["percent"].fillna(0).tolist() == [0, 0, *SHARES] and set(trade["task"]) == {"homes"}
    assert (trade["examples"] + trade["examples_dev"] == tiny.SPLITS["train"]).all()
    base, plain, _, whole = trade.to_dict("records")
    assert (whole["score"], whole["score_dev"]) == (base["score"], base["score_dev"])  # all of it put back is the base
    assert plain["score"] != base["score"] and trade["chosen"].sum() == 1
    advice = pq.read_table(results / "tables/recommendation.parquet").to_pandas()
    chosen = trade[trade["chosen"]].iloc[0]
    assert set(advice["percent"]) == {0 if chosen["percent"] != chosen["percent"] else chosen["percent"]}
    given = pq.read_table(results / "tiny/tables/task_answers.parquet").to_pandas()
    assert len(given) == 4 * tiny.SPLITS["train"] and set(given["score"]) == {0.0, 1.0}
    page = (results / "report.html").read_text().partition("<script>")[0]
    assert "What the model is for" in page and "homes (contains, tolerance 0.4)" in page


def fewer(folder: Path) -> None:
    """Take the first examples out of the task's file."""
    write_examples(folder / "homes.jsonl", "home", 9)


def one_more(folder: Path) -> None:
    """Add a task."""
    settings = configure(folder)
    configure(folder, tasks=[*settings["tasks"], {"questions": "pets.jsonl", "metric": "loglikelihood"}])


def other_task(key: str, value: object) -> Jobs:
    """Make an edit of a setting of the task."""
    return lambda folder: put("tasks", [{**configure(folder)["tasks"][0], key: value}])(folder)  # type: ignore


GRADED = tables()
COPIED = {
    "keep_restored_task": each("tiny", [f"{SWEEP}/{share}/{task}" for share in SHARES for task in ("homes", "pets")])
}
ADDED = {**together(asked("pets"), GRADED), **COPIED}  # old answers are copied, as those to questions are
EDITS = {
    "the tolerance": (other_task("tolerance", 0.1), together({"analyse_model": {"tiny"}}, PAGES)),
    "how answers are scored": (other_task("metric", "exact"), GRADED),
    "an example of the task": (fewer, together(asked("homes"), GRADED)),
    "the longest answer": (other_task("max_new_tokens", 3), together(asked("homes"), GRADED)),
    "a task is added": (one_more, ADDED),
    "all tasks are removed": (put("tasks", []), GRADED),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_asks_what_it_must(tasked: Path, tmp_path: Path, name: str) -> None:
    edit, expected = EDITS[name]
    folder = Path(shutil.copytree(tasked, tmp_path / "copy", symlinks=True))
    edit(folder)
    assert would_run(folder) == expected


def test_a_new_task_asks_restored_models_nothing_else_anew(tasked: Path, tmp_path: Path, python: Path) -> None:
    folder = Path(shutil.copytree(tasked, tmp_path / "copy", symlinks=True))
    kept = folder / f"results/tiny/runs/{RUN}/restored"
    before = {path.name: path.read_bytes() for path in kept.glob("*.parquet")}
    one_more(folder)
    assert jobs(folder, python=python) == ADDED
    after = {path.name: path.read_bytes() for path in kept.glob("*.parquet")}
    assert after.items() > before.items() and len(after) == len(before) + len(SHARES)
    log = (folder / f"results/logs/evaluate_restored/tiny.{RUN}.all.log").read_text()
    assert "already there: top-20, top-20.homes.task, top-100, top-100.homes.task" in log
    trade = pq.read_table(folder / "results/tables/task_trade.parquet").to_pandas()
    assert (trade[trade["task"] == "pets"]["score"] < 0).all()
    assert would_run(folder) == {}
