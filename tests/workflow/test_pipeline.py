"""Tests of what the whole workflow makes of a tiny model that knows some invented facts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from knowshift.report.contents import FIGURES
from knowshift.weights.deltas import Delta
from workflow import REPOSITORY, snakemake, would_run


def table(experiment: Path, name: str):
    """Read a table of the results as a pandas data frame."""
    return pq.read_table(experiment / f"results/tables/{name}.parquet").to_pandas()


def test_every_level_has_facts_and_the_grid_is_run_where_it_can_be(experiment: Path) -> None:
    levels = (
        table(experiment, "mastery").query("split == 'test' and domain == 'in_domain'").groupby("level")["facts"].sum()
    )
    assert levels.min() > 0, levels
    cells = table(experiment, "cells")
    states = cells.set_index("run")["state"].to_dict()
    assert states.pop("full-level0-1000-s1") == states.pop("full-level0-1000-s2") == "infeasible"
    assert states.pop("full-mixed-1000-s1") == states.pop("full-mixed-1000-s2") == "infeasible"
    assert states.pop("lora-mixed-1000-s1") == states.pop("lora-mixed-1000-s2") == "infeasible"
    assert sorted(states) == sorted(
        [f"full-{data}-8-s{seed}" for data in ("level0", "mixed") for seed in (1, 2)]
        + ["full-level0-all-s1", "full-mixed-all-s1"]
        + ["lora-mixed-8-s1", "lora-mixed-8-s2", "lora-mixed-all-s1"]
    )
    assert set(states.values()) == {"run"}


def test_training_teaches_the_format(experiment: Path) -> None:
    before_after = table(experiment, "training_accuracy").set_index("run")
    assert before_after.loc["full-mixed-all-s1", "after"] > before_after.loc["full-mixed-all-s1", "before"] + 0.2


def test_restoring_nothing_is_the_fine_tuned_model_and_everything_restores_every_parameter(experiment: Path) -> None:
    folder = experiment / "results/tiny/runs/full-mixed-8-s1"
    outcomes = pq.read_table(folder / "outcomes.parquet")
    assert pq.read_table(folder / "restored/top-transformer-0.parquet").equals(outcomes)
    restored = table(experiment, "restored").query("strategy == 'top' and set == 'test'")
    assert set(restored["percent"]) == {0, 20, 100}
    assert (restored[restored["percent"] == 0]["gain"] == 0).all()
    where = table(experiment, "restored_where").query("strategy == 'top' and percent == 100")
    assert where["restored"].sum() == where["parameters"].sum() > 0
    layers = pq.read_table(folder / "restored/top-0-1-100.parquet")  # all layers that the tiny model has
    assert layers.equals(pq.read_table(folder / "restored/top-transformer-100.parquet"))
    assert set(where[where["region"] == "0-1"]["layer"]) == {0, 1}
    mlp = table(experiment, "restored_where").query("region == 'mlp'")
    assert mlp["restored"].sum() == mlp["parameters"].sum() // 2


def test_adapters_leave_all_but_linear_layers_as_they_were(experiment: Path) -> None:
    tensors = pq.read_table(experiment / "results/tiny/runs/lora-mixed-all-s1/changes/transformer.tensors.parquet")
    assert all(map(int.__lt__, tensors["unchanged"].to_pylist(), tensors["parameters"].to_pylist()))
    delta = Delta(experiment / "results/tiny/runs/lora-mixed-all-s1/delta", experiment / "results/tiny/base")
    changed = {name for name, base, tuned in delta if not np.array_equal(base, tuned)}
    assert changed == set(tensors["tensor"].to_pylist())  # neither embedding nor normalisation


def test_the_chat_model_is_scored_as_it_is(experiment: Path) -> None:
    answers = pq.read_table(experiment / "results/tiny/tables/answers.parquet").to_pandas().set_index("fact_id")
    instruct, base = (answers[answers["run"] == run] for run in ("instruct", "base"))
    assert len(instruct) > 40 and set(instruct["set"]) == {"dev", "test", "test_ood"}
    assert instruct["output"].equals(base["output"].loc[instruct.index])  # in this experiment it is the same model
    assert "instruct" in set(table(experiment, "accuracy")["run"])


def test_deltas_that_nothing_restores_pass_away_on_request(experiment: Path, python: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(experiment, folder)
    edited = yaml.safe_load((folder / "config.yaml").read_text())
    edited["finetuning"]["keep_deltas"] = "restored"
    (folder / "config.yaml").write_text(yaml.safe_dump(edited))
    assert would_run(folder) == {"report": {""}}  # which prints the configuration
    runs = [folder / f"results/tiny/runs/full-{data}-8-s1" for data in ("level0", "mixed")]
    before = [(run / "outcomes.parquet").read_bytes() for run in runs]
    for run in runs:
        shutil.rmtree(run / "delta")
        (run / "outcomes.parquet").unlink()
    outcomes = [str((run / "outcomes.parquet").relative_to(folder)) for run in runs]
    done = snakemake(folder, *outcomes, python=python)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(run / "delta").exists() for run in runs] == [False, True]
    assert [(run / "outcomes.parquet").read_bytes() for run in runs] == before


def test_statistics_agree_with_the_tables_they_are_made_from(experiment: Path) -> None:
    cells = table(experiment, "cells")[["run", "method", "data", "size"]].rename(columns={"size": "asked"})
    keys = ["method", "data", "asked", "set"]
    means = table(experiment, "accuracy").merge(cells, on="run").groupby(keys)["accuracy"].mean()
    scores = table(experiment, "scores").dropna(subset="data")
    held_out = scores[scores["set"] != "training_set"].set_index(keys)
    assert held_out["accuracy"].to_dict() == pytest.approx(means[held_out.index].to_dict(), nan_ok=True)
    assert (held_out["low"] <= held_out["high"]).all() and held_out.loc[("full", "mixed", "8", "test"), "seeds"] == 2
    trained = (
        table(experiment, "training_accuracy").merge(cells, on="run").groupby(keys[:3])[["before", "after"]].mean()
    )
    own = scores[scores["set"] == "training_set"].set_index(keys[:3])
    assert own["accuracy"].to_dict() == pytest.approx(trained.loc[own.index, "after"].to_dict())
    assert (own["accuracy"] - own["gain"]).to_dict() == pytest.approx(trained.loc[own.index, "before"].to_dict())

    keys = ["strategy", "region", "percent", "set"]
    restored = table(experiment, "restored").query("set != 'training_set'").set_index(keys)  # of one run
    tested = table(experiment, "restorations").query("set != 'training_set'").set_index(keys)
    for name in ("accuracy", "gain"):
        assert tested[name].to_dict() == pytest.approx(restored.loc[tested.index, name].to_dict(), nan_ok=True)
    everything = tested.loc[("top", "transformer", 100.0, "test")]
    assert everything["undone"] == 1 and 0 < everything["p"] <= everything["p_corrected"] <= 1


def test_every_analysis_says_something_of_the_tiny_experiment(experiment: Path) -> None:
    for name in (
        "shifts",
        "correlations",
        "strategies",
        "restored_layers",
        "restored_modules",
        "right_answer_bins",
        "confidence_bins",
        "confidence_errors",
        "loss_curves",
    ):
        assert len(table(experiment, name)), name
    assert table(experiment, "claims").query("part.isna()")["claim"].tolist() == [1, 2, 3, 4]
    advice = table(experiment, "recommendation")
    assert advice["set"].tolist() == ["test", "test_ood"]
    target = advice["command"][0].removeprefix("snakemake ")
    done = snakemake(experiment, "--dry-run", target)
    assert done.returncode == 0, done.stderr[-3000:]
    flows = table(experiment, "flows")
    asked = table(experiment, "accuracy").query("run == 'base'").set_index("set")["questions"]
    assert (flows.groupby(["run", "set"])["facts"].sum().unstack() == asked[["test", "test_ood"]]).all().all()
    outputs = table(experiment, "fact_outputs")
    assert outputs.query("run == 'full-mixed-8-s1'")["restored"].notna().all() and outputs["before"].notna().all()
    costs = table(experiment, "costs").set_index("stage")
    assert costs.loc["finetune", "tokens_per_second"] > 0 and {"probe_mastery", "evaluate"} <= set(costs.index)
    printed = {path.stem for path in (experiment / "results/tables").glob("*.tex")}
    assert {"claims", "restored", "strategies"} <= printed
    assert not (experiment / "results/tables/answers.parquet").exists()  # as many rows as answers: kept per model


def test_divergence_is_measured_on_known_test_facts(experiment: Path) -> None:
    means = table(experiment, "divergence")
    assert (means.query("facts > 0")["kl"] >= 0).all() and means["facts"].max() > 0


def test_exported_models_load_anywhere(experiment: Path) -> None:
    folder = experiment / "results/tiny/exports/full-mixed-8-s1/top-transformer-20"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert torch.isfinite(model(**tokenizer("hometrain1 lives in", return_tensors="pt")).logits).all()
    selection = json.loads((folder / "selection.json").read_text())
    assert selection["k_count"] == selection["n"] * 20 // 100 == sum(selection["restored_per_tensor"].values())
    named = json.loads((folder.parent / "absolute-values-50/selection.json").read_text())
    assert named["restored_per_tensor"].keys() == {f"model.layers.{i}.self_attn.v_proj.weight" for i in (0, 1)}
    assert named["k_count"] == named["n"] // 2 == sum(named["restored_per_tensor"].values())


def test_the_report_is_one_file_that_needs_no_network(experiment: Path) -> None:
    page = (experiment / "results/report.html").read_text()
    text, _, _ = page.partition("<script>")
    shown = [entry for entry in FIGURES if entry.section not in ("elsewhere", "tasks")]
    assert "full-level0-1000-s1" in text and text.count("<figure") == len(shown)
    assert "src=" not in text.replace("xlink:href", "") and "<link" not in text
    accuracy = table(experiment, "accuracy").query("run == 'base' and set == 'test'")["accuracy"].item()
    assert f"{100 * accuracy:.1f} % of the in-domain" in text


def test_tables_hold_no_checkpoint_and_artefacts_are_whole(experiment: Path) -> None:
    assert not list(experiment.rglob("checkpoint")) and not list(experiment.rglob("*.partial"))
    for manifest in experiment.rglob("manifest.json"):
        files = json.loads(manifest.read_text())["files"]
        assert all((manifest.parent / name).stat().st_size == entry["bytes"] for name, entry in files.items())


def test_the_worked_example_of_ones_own_facts(tiny_model: Path, tmp_path: Path) -> None:
    """Run configs/own-facts.yaml and its table as docs/your-own-facts.md does, with the tiny model for the real one."""
    shutil.copytree(REPOSITORY / "resources/example", tmp_path / "resources/example")
    shutil.copy(REPOSITORY / "resources/prompt.yaml", tmp_path / "resources/prompt.yaml")
    example = yaml.safe_load((REPOSITORY / "configs/own-facts.yaml").read_text())
    example["models"] = {"tiny": {"source": {"directory": str(tiny_model)}}}
    example["results"] = "results"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(example))
    done = snakemake(tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    facts = pq.read_table(tmp_path / "results/tables/facts.parquet").to_pandas().set_index("topic")
    assert facts.loc["moon_planet", ["train", "dev", "test"]].sum() == 60 and facts.loc["moon_planet", "test"] > 15
    assert facts.loc["opera_composer", ["train", "dev", "test"]].sum() == 40
    accuracy = pq.read_table(tmp_path / "results/tables/restored.parquet").to_pandas()
    assert set(accuracy["percent"]) == {0, 5, 20} and set(accuracy["set"]) == {"training_set", "test", "test_ood"}
    assert (tmp_path / "results/report.html").exists()

    table = tmp_path / "resources/example/facts.csv"
    table.write_text(table.read_text())  # newer, and the same
    assert would_run(tmp_path) == {}
    table.write_text(table.read_text().replace("Aida,Giuseppe Verdi,Verdi", "Aida,Giuseppe Verdi,Verdi|G. Verdi"))
    stale = would_run(tmp_path)
    assert stale["build_facts"] == {"opera_composer"}
    assert stale["probe_mastery"] == {"tiny/opera_composer/dev", "tiny/opera_composer/test"}
