"""Tests of what runs again after an edit: for each edit the exact set of jobs, by rule and cell (docs/reruns.md).

A dry run shows the jobs of the edits here, or a damaged file is built again. A dry run cannot see all that follows the
edits in test_edits_run.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edits import (
    ALL_PROBED,
    ALL_TRAINED,
    EXPORTS,
    FULL_TRAINED,
    LORA,
    METHODS,
    NOTHING,
    OLDER_TIMES,
    PAGES,
    PICTURES,
    RESTORED,
    RUNS,
    STOPS,
    TRAIN_PROBED,
    asked,
    code,
    config,
    delete,
    graded,
    put,
    remove_restored,
    restore,
    restored,
    reverse_keys,
    several,
    tables,
    trained,
    unparse,
)
from workflow import ONCE, PROFILE, REPOSITORY, Jobs, each, jobs, together, would_run

PROBING, TRAINING = "scripts/knowshift/mastery/probing.py", "scripts/knowshift/finetuning/schedule.py"
COSINE = "recipe.learning_rate * 0.5 * (1 + math.cos"

DRY = {
    # adds
    "add a size": (
        config(lambda settings: settings["finetuning"]["sizes"].append(4)),
        together(trained([run.replace("-8-", "-4-") for run in RUNS if "-8-" in run]), tables()),
    ),
    "add a seed": (
        config(lambda settings: settings["finetuning"]["seeds"].append(3)),
        together(
            {"draw_order": {"tiny/level0/3", "tiny/mixed/3"}},
            trained(["full-level0-8-s3", "full-mixed-8-s3", "lora-mixed-8-s3"]),
            tables(),
        ),
    ),
    "add a data kind": (
        config(lambda settings: settings["finetuning"]["data"].append("level4")),
        together(
            {"draw_order": {"tiny/level4/1", "tiny/level4/2"}},
            trained(["full-level4-8-s1", "full-level4-8-s2", "full-level4-all-s1"]),
            tables(),
        ),
    ),
    "probe fewer train facts": (put("facts.train_limit", 100), TRAIN_PROBED),
    "add a restored share": (
        restore(percents=[40]),
        together(restored(["full-mixed-8-s1/top/transformer/40"], with_others=True), tables()),
    ),
    "add a restored region": (
        restore(region="attention", percents=[20]),
        together(
            {"measure_changes": {"tiny/full-mixed-8-s1/attention"}},
            restored(["full-mixed-8-s1/top/attention/20"]),
            tables(),
        ),
    ),
    "add a region to rank": (
        put("regions", ["transformer", "mlp"]),
        together({"measure_changes": each("tiny", RUNS, "/mlp")}, tables()),
    ),
    "add a restoration strategy": (
        restore(strategy="bottom", percents=[20]),
        together(restored(["full-mixed-8-s1/bottom/transformer/20"], with_others=True), tables()),
    ),
    "add a strategy that compares with other seeds": (
        restore(strategy="sign_agreeing", percents=[20]),
        together(restored(["full-mixed-8-s1/sign_agreeing/transformer/20"], with_others=True), tables()),
    ),
    "add a number format that answers": (
        restore(percents=[20], more_dtypes=["bfloat16"]),
        together(
            restored([f"full-mixed-8-s1/-bfloat16/top/transformer/{share}" for share in (0, 20)]),
            tables(),
        ),
    ),
    **METHODS,
    **STOPS,
    # removes
    "remove a size": (put("finetuning.sizes", [8, 1000]), tables()),
    "keep a data kind from a size": (put("finetuning.data_sizes", {"level0": ["all", 1000]}), tables()),
    "add a size for one data kind": (
        several(
            config(lambda settings: settings["finetuning"]["sizes"].append(4)),
            put("finetuning.data_sizes", {"level0": [8, 1000, "all"]}),
        ),
        together(trained([run.replace("-8-", "-4-") for run in RUNS if "mixed-8-" in run]), tables()),
    ),
    "remove a seed": (put("finetuning.seeds", [1]), tables()),
    "remove a data kind": (put("finetuning.data", ["mixed"]), tables()),
    "remove a method": (several(put("finetuning.methods", ["full"]), put("finetuning.method_data", {})), tables()),
    "remove a restored share": (config(lambda settings: settings["restoration"][0]["percents"].remove(100)), tables()),
    "remove a restored region": (remove_restored("region", "0-1"), tables()),
    "remove a restoration strategy": (remove_restored("strategy", "random"), tables()),
    "remove a topic out of domain": (
        put("facts.out_of_domain", []),
        together(graded(), {"tabulate_facts": ONCE}, tables()),
    ),
    "remove an export": (put("exports", []), {"report": ONCE}),
    # science
    "learning rate": (put("finetuning.learning_rate", 2e-3), FULL_TRAINED),
    "known facts trained along": (
        put("finetuning.replay", 0.5),
        together({"draw_order": {"tiny/known/1", "tiny/known/2"}}, ALL_TRAINED),
    ),
    "LoRA learning rate": (put("finetuning.lora.learning_rate", 2e-3), together(trained(LORA), tables())),
    "BOS before every text": (put("models.tiny.bos", "never"), ALL_PROBED),
    "another attention": (put("models.tiny.attention", "eager"), ALL_PROBED),
    "arguments of the chat template": (
        several(
            put("models.tiny.instruct.prompt", "chat"),
            put("models.tiny.instruct.chat.template_args", {"enable_thinking": False}),
        ),
        together({"evaluate_instruct": {"tiny"}}, tables()),
    ),
    "ways to write a name": (put("facts.writings", ["accents"]), together(graded(), tables())),
    "a report on some models": (put("report_on", ["tiny"]), {"report": ONCE}),
    "how the chat model is asked": (
        several(put("models.tiny.instruct.prompt", "chat"), put("models.tiny.instruct.chat.date", "2026-01-01")),
        together({"evaluate_instruct": {"tiny"}}, tables()),
    ),
    "LoRA rank": (put("finetuning.lora.rank", 8), together(trained(LORA), tables())),
    "two values swapped": (
        several(put("finetuning.batch_size", 6), put("finetuning.epochs", 8)),  # 8 by default, and 6
        ALL_TRAINED,
    ),
    "keys in another order": (reverse_keys, NOTHING),
    "consent to an unusual size": (put("allow_large", True), NOTHING),
    "probe's temperature": (put("mastery.temperature", 0.8), ALL_PROBED),
    "token limit of answers": (
        put("evaluation.max_new_tokens", 5),
        together({"evaluate_base": {"tiny"}, "evaluate_instruct": {"tiny"}}, asked(RUNS), restored(RESTORED), tables()),
    ),
    "number of examples for the few-shot base": (
        put("evaluation.few_shot", 1),
        together({"evaluate_base": {"tiny"}}, {"measure_divergence": each("tiny", RUNS)}, tables()),
    ),
    "levels from one half of the completions": (put("mastery.levels_from", "first_half"), together(graded(), tables())),
    "KL over the top 20": (
        put("divergence.top_tokens", 20),
        together({"measure_divergence": each("tiny", RUNS)}, tables()),
    ),
    "a completion template that is not in use": (
        code("mine/templates/home.yaml", "- the home of [X] is", "- the home of [X] is\n- '[X] dwells in'"),
        NOTHING,
    ),
    # files
    **OLDER_TIMES,
    "a table deleted": (delete("results/tables/accuracy.parquet"), PAGES),
    "a picture deleted": (delete("results/figures/restored.svg"), PICTURES),
    "the report deleted": (delete("results/report.html"), {"report": ONCE}),
    "a model's answers deleted": (delete("results/tiny/tables/answers.parquet"), tables()),
    "an exported model deleted": (
        delete("results/tiny/exports/full-mixed-8-s1/top-transformer-20/manifest.json"),
        {"export_model": each("tiny", EXPORTS[:1])},
    ),
    # code
    "comment, docstring, formatting, shell text, unused code": (
        several(
            code("scripts/finetune.py", "import signal", "# a comment\nimport signal"),
            code(TRAINING, '"""Return the learning rate of', '"""Tell the learning rate of'),
            unparse("scripts/knowshift/generation/torch_engine.py"),
            unparse("scripts/evaluate.py"),
            code("rules/finetuning.smk", " --spec {params.spec:q}", "   --spec   {params.spec:q}"),
            code(PROBING, "import pyarrow as pa", "import json\n\nimport pyarrow as pa"),
            code(PROBING, "\n\ndef probe(", "\n\ndef unused() -> str:\n    return json.dumps(1)\n\n\ndef probe("),
        ),
        NOTHING,
    ),
    "a function that the probe uses": (code(PROBING, "on_done=on_done)", "on_done=on_done or None)"), ALL_PROBED),
    "a function that only plotting uses": (
        code("scripts/knowshift/report/figures/theme.py", '"fontSize": 14', '"fontSize": 15'),
        PICTURES,
    ),
    "code that only logs, writes or resumes": (
        several(
            code("scripts/cli/admitting.py", "SHORT = 8", "SHORT = 9"),
            code("scripts/cli/expectations.py", "default=[]", "default=['all']"),
            code("scripts/knowshift/runtime/progress.py", "mininterval=1.0", "mininterval=2.0"),
            code("scripts/knowshift/runtime/parquet.py", 'compression="zstd"', 'compression="snappy"'),
            code("scripts/knowshift/runtime/resumption.py", "{number:06d}", "{number:08d}"),
        ),
        NOTHING,
    ),
    "a class of training": (
        code("scripts/knowshift/configuration/finetuning.py", 'default="adamw",', 'default="adamw_8bit",'),
        ALL_TRAINED,
    ),
    "a function of training": (code(TRAINING, COSINE, COSINE.replace("0.5", "0.50001")), ALL_TRAINED),
    "a column of a report's table": (
        code(
            "scripts/knowshift/analysis/run_schemas.py",
            "_RUN, _SET, *_SCORES]",
            '_RUN, _SET, *_SCORES, field("x", pa.int8())]',
        ),
        tables(),
    ),
    "the page of the report": (code("resources/report/parts/summary.html.jinja", "<h2", "<h2 "), {"report": ONCE}),
    "a dependency upgraded": (
        several(
            code("envs/requirements.lock", "\ntorch==", "\ntorch==9"),
            code("envs/knowshift.yaml", "- torch==", "- torch==9"),
        ),
        NOTHING,
    ),
}


def linked(source: Path, target: Path) -> Path:
    """A copy for dry runs: results are the same files, all else is its own."""

    def copy(path: str, to: str) -> object:
        return os.link(path, to) if "/results/" in path else shutil.copy2(path, to)

    return Path(shutil.copytree(source, target, copy_function=copy, symlinks=True))


@pytest.mark.parametrize("name", DRY)
def test_an_edit_reruns_what_it_makes_stale(experiment: Path, tmp_path: Path, name: str) -> None:
    edit, expected = DRY[name]
    folder = linked(experiment, tmp_path / "copy")
    edit(folder)
    assert would_run(folder) == expected


def test_newer_times_rerun_nothing(experiment: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(experiment, tmp_path / "copy", symlinks=True))
    for path in folder.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts:
            path.touch()
    assert would_run(folder) == NOTHING


def test_a_fresh_clone_with_the_results_moved_in_reruns_nothing(experiment: Path, tmp_path: Path) -> None:
    for path in experiment.rglob("*"):  # as git writes it: all files are new
        place = tmp_path / "elsewhere/clone" / path.relative_to(experiment)
        if path.is_file() and not {"results", ".snakemake"} & set(path.relative_to(experiment).parts):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    for name in ("results", ".snakemake"):
        shutil.copytree(experiment / name, tmp_path / "elsewhere/clone" / name, symlinks=True)
    assert would_run(tmp_path / "elsewhere/clone") == NOTHING


EXECUTION = {
    "cores": 1,
    "jobs": 50,
    "latency-wait": 60,
    "default-resources": ["slurm_partition='gpu'", "runtime=240", "mem_mb=64000"],
    "set-threads": ["finetune=4", "probe_mastery=4", "evaluate=4", "diff_weights=4", "export_model=2"],
    "set-resources": [
        "finetune:mem_mb=90000",
        "finetune:gpu=4",
        "finetune:save_every=60",
        "finetune:gradient_checkpointing=1",
        "finetune:tensorboard=1",
        "probe_mastery:gpu=1",
        "probe_mastery:chunk=100",
        "evaluate:gpu=1",
        "evaluate:chunk=7",
    ],
    "resources": ["gpu=8", "mem_mb=900000"],
}


def test_where_and_how_fast_it_runs_is_no_edit(experiment: Path, tmp_path: Path) -> None:
    """Threads, memory, GPUs, save intervals, and a profile with all that SLURM asks for."""
    default = yaml.safe_load((PROFILE / "config.yaml").read_text())
    kept = {key: default[key] for key in ("rerun-triggers", "max-checksum-file-size")}
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster/config.yaml").write_text(yaml.safe_dump({**EXECUTION, **kept}))
    assert would_run(experiment, profile=tmp_path / "cluster") == NOTHING


@pytest.mark.skipif(not (REPOSITORY / "profiles/slurm").is_dir(), reason="there is no profile for SLURM")
def test_from_one_machine_to_slurm_reruns_nothing(experiment: Path, tmp_path: Path) -> None:
    """What profiles/slurm sets, less what only the plugin of its executor knows."""
    settings = yaml.safe_load((REPOSITORY / "profiles/slurm/config.yaml").read_text())
    assert settings["rerun-triggers"] == ["input", "params"] and settings["max-checksum-file-size"] > 1e11
    settings = {key: value for key, value in settings.items() if key != "executor" and not key.startswith("slurm-")}
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/config.yaml").write_text(yaml.safe_dump(settings))
    assert would_run(experiment, profile=tmp_path / "slurm") == NOTHING


# --- a change of code that is recorded as neutral ---


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_change_recorded_as_neutral_reruns_nothing_and_hides_no_later_one(experiment: Path, tmp_path: Path) -> None:
    folder = linked(experiment, tmp_path / "copy")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
    run("git", "init", "-q")
    run("git", "add", "scripts", "rules")
    run("git", *identity, "commit", "-qm", "x")
    code(TRAINING, COSINE, COSINE.replace("(1 +", "(1.0 +"))(folder)
    run(sys.executable, "rules/neutral.py", "finetune", "--reason", "the sum is the same")
    assert would_run(folder) == NOTHING
    code(TRAINING, "(1.0 + math.cos", "(1.1 + math.cos")(folder)
    assert would_run(folder) == ALL_TRAINED


# --- damage ---

READERS = together(
    trained(["full-level0-8-s1", "full-level0-all-s1"]),  # that take their facts from the damaged order
    tables(),
)


@pytest.mark.parametrize(
    ("file", "stale", "artefact", "producers", "reader"),
    [
        (
            "orders/level0-s1.parquet",
            READERS,
            "orders/level0-s1.parquet",
            {"draw_order": {"tiny/level0/1"}},
            "runs/full-level0-8-s1/steps.parquet",
        ),
        (
            "runs/full-mixed-8-s1/delta/delta-00001.safetensors",
            NOTHING,
            "runs/full-mixed-8-s1/delta",
            {"finetune": {"tiny/full-mixed-8-s1"}, "diff_weights": {"tiny/full-mixed-8-s1"}},
            "runs/full-mixed-8-s1/outcomes.parquet",
        ),
        (
            "base/model.safetensors",
            NOTHING,
            "base/manifest.json",
            {"resolve_model": {"tiny"}},
            "runs/full-mixed-8-s1/changes/transformer.histogram.parquet",
        ),
    ],
    ids=["a table", "a delta", "a model"],
)
def test_a_truncated_file_is_noticed_and_rebuilt_as_its_reader_says(
    experiment: Path, python: Path, tmp_path: Path, file: str, stale: Jobs, artefact: str, producers: Jobs, reader: str
) -> None:
    folder = Path(shutil.copytree(experiment, tmp_path / "copy", symlinks=True))
    results = folder / "results/tiny"
    whole = (results / file).read_bytes()

    def truncate() -> None:
        (results / file).unlink()  # a base may be the source's files, linked
        (results / file).write_bytes(whole[: len(whole) * 2 // 3])

    truncate()
    assert would_run(folder) == stale  # Snakemake sees into files, but not into folders
    target = f"results/tiny/{artefact}"
    assert jobs(folder, "--force", target, python=python) == producers
    assert (results / file).read_bytes() == whole
    assert would_run(folder) == NOTHING  # the same bytes: nothing that was made of them is stale

    truncate()
    jobs(folder, "--force", f"results/tiny/{reader}", python=python, fails=True)
    logs = [path.read_text() for path in (results.parent / "logs").rglob("*.log")]
    assert any(f"rebuild it with: snakemake --force {target}\n" in text for text in logs)
