"""Models that were fine-tuned elsewhere, as cells of the workflow: a trained cell put in again, and nothing trained."""

import json
import shutil
from pathlib import Path

import foreign_checkpoints as elsewhere
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

import tiny
from edits import put, tables
from knowshift.report.contents import FIGURES
from workflow import Jobs, clone, configure, each, jobs, snakemake, together, would_run

CELL, AGAIN = "full-mixed-8-s1", "tuned-again"
TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}{{ eos_token }}"


def read(path: Path) -> pa.Table:
    return pq.read_table(path).replace_schema_metadata(None)


def held_out(path: Path) -> pa.Table:
    """Answers without those to questions of the cell's own training set, which only a cell trained here is asked."""
    table = read(path)
    return table.filter(pc.not_equal(table["set"], "training_set"))


@pytest.fixture(scope="module")
def put_in_again(experiment: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny experiment with the export of one of its cells as a model that was fine-tuned elsewhere."""
    folder = tmp_path_factory.mktemp("again") / "copy"
    shutil.copytree(experiment, folder, symlinks=True)
    exported = f"results/tiny/exports/{CELL}/top-transformer-0"
    done = snakemake(folder, f"{exported}/manifest.json", python=python)
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.copytree(folder / exported, folder / "mine/again")
    settings = configure(folder)
    settings["models"]["tiny"]["tuned"] = {"again": {"source": {"directory": "mine/again"}, "prompt": "study"}}
    settings["restoration"].append({"tuned": ["again"], "percents": [0, 20, 100]})
    settings["exports"].append({"model": "tiny", "run": AGAIN, "percent": 20})
    configure(folder, **settings)
    ran = jobs(folder, python=python)
    new = {rule: {cell for cell in cells if AGAIN in cell} for rule, cells in ran.items()}
    assert {rule for rule, cells in new.items() if cells} == {
        *("resolve_tuned", "diff_weights", "measure_changes", "evaluate", "measure_divergence"),
        *("evaluate_restored", "keep_restored", "export_model"),
    }
    assert all(AGAIN in cell for rule in ("evaluate", "diff_weights", "keep_restored") for cell in ran[rule])
    assert would_run(folder) == {}
    return folder


def test_an_export_that_is_put_in_again_is_that_cell_bit_for_bit(put_in_again: Path) -> None:
    trained, again = (put_in_again / f"results/tiny/runs/{run}" for run in (CELL, AGAIN))
    names = sorted(path.name for path in (trained / "delta").glob("*.safetensors"))
    assert names == sorted(path.name for path in (again / "delta").glob("*.safetensors")) != []
    assert all((trained / "delta" / name).read_bytes() == (again / "delta" / name).read_bytes() for name in names)
    for name in ("changes/transformer.histogram.parquet", "changes/transformer.tensors.parquet"):
        assert read(trained / name).equals(read(again / name))
    assert held_out(trained / "outcomes.parquet").equals(held_out(again / "outcomes.parquet"))
    assert read(trained / "divergence.parquet").equals(read(again / "divergence.parquet"))
    for share in (0, 20, 100):
        name = f"restored/top-transformer-{share}"
        assert read(trained / f"{name}.selection.parquet").equals(read(again / f"{name}.selection.parquet"))
        assert held_out(trained / f"{name}.parquet").equals(held_out(again / f"{name}.parquet"))
    exports = [put_in_again / f"results/tiny/exports/{run}/top-transformer-20" for run in (CELL, AGAIN)]
    assert len({(folder / "model.safetensors").read_bytes() for folder in exports}) == 1
    assert not (again / "checkpoint").exists() and (again / "files/tokenizer.json").is_file()


def test_both_kinds_of_cells_stand_in_the_same_tables(put_in_again: Path) -> None:
    folder = put_in_again / "results/tables"
    scores = pq.read_table(folder / "scores.parquet").to_pandas().set_index(["method", "data", "set"])
    assert np.isnan(scores.loc[("tuned", "again", "test"), "size"])
    restored = pq.read_table(folder / "restorations.parquet").to_pandas().query("set == 'test'")
    same = restored.query("region == 'transformer' and strategy == 'top'").groupby("percent")["accuracy"].nunique()
    assert same.tolist() == [1, 1, 1]
    fates = pq.read_table(folder / "fates.parquet").to_pandas()
    whole = fates[fates["topic"].isna() & fates["percent"].isna()].set_index("set")
    assert (whole["kept"] + whole["lost"] + whole["learned"] + whole["unknown"] == whole["facts"]).all()
    topics = fates[fates["topic"].notna() & (fates["set"] == "test")]
    assert topics["kept"].sum() == whole.loc["test", "kept"] and set(topics["topic"]) == set(tiny.IN_DOMAIN)
    advice = pq.read_table(folder / "recommendation.parquet").to_pandas()
    assert set(advice.query("method == 'tuned'")["run"]) == {AGAIN} and len(advice) == 4
    page = (put_in_again / "results/report.html").read_text().partition("<script>")[0]
    shown = [entry for entry in FIGURES if entry.section != "tasks"]
    assert "Models that were fine-tuned elsewhere" in page and page.count("<figure") == len(shown)


def added_row(folder: Path) -> None:
    """Change a file of the model that was fine-tuned elsewhere."""
    path = folder / "mine/again/generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_length": 21}))


RESTORED = f"{AGAIN}/top/transformer"
ASKED: Jobs = {
    "evaluate": {f"tiny/{AGAIN}"},
    "evaluate_restored": {f"tiny/{AGAIN}/transformer"},
    "keep_restored": each("tiny", [f"{RESTORED}/{share}" for share in (0, 20, 100)]),
}
DIFFERENCE: Jobs = {"measure_divergence": {f"tiny/{AGAIN}"}}
EDITS = {
    "a file of the model": (
        added_row,
        together(
            {rule: {f"tiny/{AGAIN}"} for rule in ("resolve_tuned", "diff_weights")},
            {"measure_changes": {f"tiny/{AGAIN}/transformer"}, "export_model": {f"tiny/{RESTORED}/20"}},
            ASKED,
            DIFFERENCE,
            tables(),
        ),
    ),
    "its prompt": (
        put("models.tiny.tuned.again.prompt", "mine/other.yaml"),
        together(ASKED, tables()),
    ),
    "another share": (
        lambda folder: configure(
            folder,
            restoration=[
                {**entry, "percents": [0, 5, 20, 100]} if entry.get("tuned") else entry
                for entry in configure(folder)["restoration"]
            ],
        ),
        together(
            {
                "evaluate_restored": {f"tiny/{AGAIN}/transformer"},
                "keep_restored": each("tiny", [f"{RESTORED}/{share}" for share in (0, 5, 20, 100)]),
            },
            tables(),
        ),
    ),
    "the chat of a model that is asked in none": (put("models.tiny.tuned.again.chat", {"thinking": True}), None),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_a_tuned_model_reruns_that_model_alone(put_in_again: Path, tmp_path: Path, name: str) -> None:
    edit, expected = EDITS[name]
    folder = Path(shutil.copytree(put_in_again, tmp_path / "copy", symlinks=True))
    (folder / "mine/other.yaml").write_text('prompt: "{question}"\nanswer: " {object}"\n')
    edit(folder)
    assert would_run(folder) == ({"report": {""}} if expected is None else expected)


def test_an_experiment_may_train_nothing(tiny_model: Path, tiny_facts: Path, python: Path, tmp_path: Path) -> None:
    """A chat model with new tokens, and an adapter with a prompt of its own, from base to repaired model."""
    clone(tmp_path)
    chat = elsewhere.tune(tiny_model, tmp_path / "chat", elsewhere.grow)
    (chat / "chat_template.jinja").write_text(TEMPLATE)
    elsewhere.adapter(tiny_model, tmp_path / "adapter")
    (tmp_path / "asking.yaml").write_text('prompt: "{question}"\nanswer: " {object}"\n')
    settings = tiny.configuration(tiny_facts, tiny_model)
    del settings["finetuning"], settings["named_regions"], settings["models"]["tiny"]["instruct"]
    settings["models"]["tiny"]["tuned"] = {
        "chat-bot": {
            "source": {"directory": "chat"},
            "chat": {"request": "", "system": "home pet", "max_new_tokens": 3},
        },
        "lora": {"source": {"adapter": "adapter"}, "prompt": "asking.yaml"},
    }
    settings["restoration"] = [{"percents": [20, 100]}]
    settings["exports"] = [{"model": "tiny", "run": "tuned-chat-bot", "percent": 20}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    ran = jobs(tmp_path, python=python)
    assert not {"finetune", "draw_order", "measure_divergence"} & set(ran)
    assert ran["resolve_tuned"] == {"tiny/tuned-chat-bot", "tiny/tuned-lora"}
    assert would_run(tmp_path) == {}
    results = tmp_path / "results"
    fates = pq.read_table(results / "tables/fates.parquet").to_pandas()
    assert set(fates["data"]) == {"chat-bot", "lora"} and set(fates["asked_with"]) == {"few-shot"}
    assert set(fates["percent"].dropna()) == {20, 100}
    claims = pq.read_table(results / "tables/claims.parquet").to_pandas()
    assert set(claims["verdict"]) == {"cannot be told"}
    model = elsewhere.load(results / "tiny/exports/tuned-chat-bot/top-transformer-20")
    before, after = (elsewhere.load(path).get_input_embeddings().weight for path in (tiny_model, chat))
    rows = model.get_input_embeddings().weight
    assert rows.shape == after.shape and bool((rows[len(before) :] == after[len(before) :]).all())
    page = (results / "report.html").read_text().partition("<script>")[0]
    assert "would show this" not in page and "No cell of this" not in page and "cannot be told" not in page
    assert "Nothing was trained here" in page and "chat-bot" in page and "its own chat template" in page
    done = snakemake(tmp_path, "--forcerun", "plan", "plan", python=python)
    assert done.returncode == 0 and "resolve_tuned" in done.stdout + done.stderr, done.stderr[-2000:]
