"""What is planned before it runs: the paper's grid, a target per stage, overrides, use as a module, and what it will take."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import yaml

import planned
import tiny
from knowshift.configuration import checking, sections
from knowshift.planning.accelerators import ACCELERATORS, generating_seconds, starting_seconds, training_seconds
from knowshift.planning.inventory import Beforehand
from knowshift.planning.plan import ANSWER_BYTES, DELTA_BYTES, Topic, Weights, plan
from knowshift.report import contents
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.parameter_counts import named_parameters

REPOSITORY = Path(__file__).parents[2]
PAPER = REPOSITORY / "configs/paper.yaml"
FIGURES = [entry.name for entry in contents.FIGURES]


def paper() -> sections.Configuration:
    return checking.check(yaml.safe_load(PAPER.read_text()), REPOSITORY)


# --- the paper's grid ---

MODELS, TOPICS_IN, TOPICS_OUT = 5, 10, 14
# Six kinds of data and LoRA on mixed data; six sizes with five seeds each, and once all facts.
CELLS = MODELS * (6 + 1) * (6 * 5 + 1)
# One model, five levels, five seeds: seven shares at two sizes; eight blocks of four layers at 1,920 facts, each with a histogram.
SHARES, BLOCKS = 5 * 5 * 2 * 7, 5 * 5 * 8
CELL_JOBS = {
    "resolve_instruct": MODELS,
    "evaluate_base": MODELS,
    "evaluate_instruct": MODELS,
    "draw_order": MODELS * 6 * 5,
    "finetune": CELLS,
    "keep_delta": 5 * 5 * 2,
    "diff_weights": CELLS - 5 * 5 * 2,
    "measure_changes": CELLS + BLOCKS,
    "evaluate": CELLS,
    "measure_divergence": CELLS,
    "evaluate_restored": SHARES + BLOCKS,
    "tabulate_model": MODELS,
    "analyse_model": MODELS,
    "join_tables": 1,
    "tabulate_costs": 1,
    "tabulate_published": 1,
    "print_tables": 1,
    "tabulate_facts": 1,
    "plot": 1,
    "report": 1,
    "all": 1,
}
EARLIER_JOBS = {
    "retrieve_entityquestions": 1,
    "build_facts": TOPICS_IN + TOPICS_OUT,
    "resolve_model": MODELS,
    "probe_mastery": MODELS * (3 * TOPICS_IN + 2 * TOPICS_OUT),
    "grade_mastery": MODELS,
    "count_levels": MODELS,
}


def test_the_papers_grid_has_the_jobs_that_its_arithmetic_says(tmp_path: Path) -> None:
    planned.know_mastery(yaml.safe_load(PAPER.read_text()), tmp_path, planned.published_levels())
    text = planned.dry_run(tmp_path, "--configfile", str(PAPER), "--quiet", "rules")
    counts = planned.job_counts(text)
    assert counts == CELL_JOBS
    known = Beforehand(paper(), REPOSITORY)
    whole = plan(paper(), known.topics(), known.models({}), ACCELERATORS["h100"])
    assert {rule: count for rule, count in whole.jobs.items() if count} == CELL_JOBS | EARLIER_JOBS
    assert (whole.cells, whole.infeasible, whole.assumed) == (CELLS, 0, [])


def test_before_mastery_is_known_it_is_planned_up_to_there_and_said_what_follows(tmp_path: Path) -> None:
    text = planned.dry_run(tmp_path, "--configfile", str(PAPER))
    counts = planned.job_counts(text)
    assert counts.items() >= EARLIER_JOBS.items() and "finetune" not in counts
    follows = f"{CELLS // MODELS} fine-tuned models and {SHARES + BLOCKS} restored ones follow"
    assert text.count(f"llama-3-8b: planned up to its mastery. If every level has facts enough, {follows}") == 1
    assert text.count("planned up to its mastery") == MODELS


# --- a target per stage, overrides, the Snakefile itself ---


@pytest.fixture
def known(tiny_facts: Path, tmp_path: Path) -> Path:
    """A folder with the tiny experiment, whose mastery is known (in files that are empty)."""
    content = tiny.configuration(tiny_facts, tmp_path) | {"results": "results"}
    content["facts"]["source"] = "archive"
    content["models"]["tiny"].pop("instruct")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    levels = {"train": [150] * 5, "test": [10] * 5, "test_ood": [5] * 5}
    planned.know_mastery(content, tmp_path, {"tiny": levels})
    return tmp_path


RUNS = 3 * (2 + 1)  # full on level 0, full and lora on mixed data: 8 facts with two seeds, and all; nobody has 1,000


@pytest.mark.parametrize(
    ("target", "some", "absent"),
    [
        ("finetunes", {"finetune": RUNS, "diff_weights": RUNS}, {"evaluate", "measure_changes"}),
        (
            "evaluations",
            {"evaluate": RUNS, "measure_divergence": RUNS, "evaluate_base": 1},
            {"measure_changes", "plot"},
        ),
        ("restorations", {"evaluate_restored": 5, "finetune": RUNS, "measure_changes": RUNS + 1}, {"evaluate", "plot"}),
        ("report", {"evaluate": RUNS, "evaluate_restored": 5, "report": 1}, {"export_model"}),
        ("export", {"export_model": 2, "finetune": 1}, {"evaluate", "report"}),
    ],
)
def test_every_stage_is_a_target(known: Path, target: str, some: dict[str, int], absent: set[str]) -> None:
    counts = planned.job_counts(planned.dry_run(known, target, "--quiet", "rules"))
    assert counts.items() >= some.items() and not absent & counts.keys()


def test_mastery_is_a_target_and_where_deltas_pass_away_their_readers_belong_to_it(known: Path) -> None:
    assert "Nothing to be done" in planned.dry_run(known, "mastery")
    kept = ("--config", 'finetuning={"keep_deltas": "restored"}')
    counts = planned.job_counts(planned.dry_run(known, "finetunes", "--quiet", "rules", *kept))
    assert counts["evaluate"] == counts["measure_changes"] == counts["finetune"] == RUNS


def test_values_given_on_the_command_line_override_those_of_the_file(known: Path) -> None:
    text = planned.dry_run(known, "--quiet", "rules", "--config", 'finetuning={"seeds": [1]}')
    assert planned.job_counts(text)["finetune"] == 3 * 2
    text = planned.dry_run(known, "--quiet", "rules", "--config", "results=elsewhere", "seed=2")
    assert planned.job_counts(text)["build_facts"] == 3
    done = subprocess.run(
        planned.command("--dry-run", "--config", "sede=2"), cwd=known, capture_output=True, text=True, check=False
    )
    assert done.returncode and "sede is no known key" in done.stdout + done.stderr


def test_the_graph_of_rules_is_short(known: Path) -> None:
    done = subprocess.run(planned.command("--rulegraph"), cwd=known, capture_output=True, text=True, check=True)
    assert done.stdout.count("label =") <= 25 and "->" in done.stdout
    done = subprocess.run(planned.command("mastery", "--dag"), cwd=known, capture_output=True, text=True, check=True)
    assert 'label = "probe_mastery' in done.stdout


def test_reading_the_snakefile_imports_neither_torch_nor_transformers(known: Path) -> None:
    """The whole of Snakemake's process is looked at, as every job of a cluster starts it."""
    command = planned.command("--list-rules")
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], cwd=known, capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "knowshift.finetuning.grid" in imported and not imported & {"torch", "transformers", "altair", "datasets"}


def test_a_finished_experiment_has_nothing_to_do_and_a_report_of_snakemakes(known: Path) -> None:
    planned.finish(known)
    assert "Nothing to be done" in planned.dry_run(known)
    assert "Nothing to be done" in planned.dry_run(known, "--software-deployment-method", "conda", **conda(known))
    for figure in FIGURES:
        (known / f"results/figures/{figure}.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    report = subprocess.run(
        planned.command("--report", "report.html"), cwd=known, capture_output=True, text=True, check=False
    )
    assert report.returncode == 0, report.stderr[-3000:]
    page = (known / "report.html").read_text()
    assert all(f"{figure}.svg" in page for figure in FIGURES) and "putting the most changed share" in page


def conda(folder: Path) -> dict[str, str]:
    """PATH with the conda that is there, else with one that only says so: Snakemake asks no more of it in a dry run."""
    if "CONDA_EXE" in os.environ:
        return {}
    program = folder / "bin/conda"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncase "$*" in\n*--version) echo "conda 25.1.0";;\n'
        '*) echo \'{"conda_prefix": "/", "platform": "linux-64", "get": {"channel_priority": "strict"}}\';;\nesac\n'
    )
    program.chmod(0o755)
    return {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


def test_every_figure_of_snakemakes_report_has_a_caption() -> None:
    assert set(FIGURES) <= {path.stem for path in (REPOSITORY / "resources/captions").glob("*.rst")}


# --- as a module ---

MODULE = """
configfile: "outer.yaml"

module knowshift:
    snakefile: "{snakefile}"
    config: config["knowledge"]

use rule * from knowshift as knowledge_*

rule everything:
    default_target: True
    input: "results/tiny/completions/job.test.parquet", "results/summary.txt"

rule summary:
    input: "results/facts/home.parquet"
    output: "results/summary.txt"
    shell: "wc -c {{input}} > {{output}}"
"""


def test_another_workflow_uses_this_one_as_a_module(tiny_model: Path, tiny_facts: Path, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(MODULE.format(snakefile=REPOSITORY / "Snakefile"))
    (tmp_path / "outer.yaml").write_text(yaml.safe_dump({"knowledge": tiny.configuration(tiny_facts, tiny_model)}))
    command = planned.command(snakefile=tmp_path / "Snakefile")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    done = run()
    assert done.returncode == 0, done.stderr[-3000:]
    assert pq.read_table(tmp_path / "results/tiny/completions/job.test.parquet").num_rows == 25 * 2 * 6
    assert int((tmp_path / "results/summary.txt").read_text().split()[0]) > 0
    done = run("knowledge_all", "--dry-run", "--quiet", "rules")
    assert done.returncode == 0, done.stderr[-3000:]
    counts = planned.job_counts(done.stdout + done.stderr)
    assert counts["knowledge_probe_mastery"] == 2 * 3 + 1  # of eight, one is there


# --- what it will take ---

SMALL = {"train": 100, "dev": 10, "test": 20}


def small_plan(models: Mapping[str, Weights], **finetuning) -> tuple:
    """The plan of one topic in each domain."""
    topics = {
        "a": Topic("in_domain", SMALL, 100, completion=10, question=20, answer=5),
        "b": Topic("out_of_domain", {"dev": 10, "test": 20}, 0, completion=10, question=20, answer=5),
    }
    raw = {
        "models": {name: {"source": {"hub": f"x/{name}", "revision": "0" * 40}} for name in models},
        "facts": {"source": "archive", "in_domain": ["a"], "out_of_domain": ["b"]},
        "mastery": {"templates": 2, "samples": 3, "max_new_tokens": 4, "rows": 8, "dtype": "bfloat16"},
        "finetuning": {"data": ["level0", "mixed"], "sizes": [16, 50, "all"], "seeds": [1, 2], **finetuning},
        "evaluation": {"per_level": {"test": 3, "test_ood": None}, "training_set": 10, "max_new_tokens": 5},
        "restoration": [{"data": ["mixed"], "sizes": [16], "percents": [5, 20]}],
    }
    experiment = sections.Configuration.model_validate(raw)
    return plan(experiment, topics, models, ACCELERATORS["a100"]), experiment


def test_sequences_and_tokens_are_counted() -> None:
    levels = {"drawable": [10, 20, 30, 20, 20], "test": [2, 4, 4, 5, 5], "test_ood": [4] * 5}
    result, _ = small_plan({"m": Weights(1e9, 2e9, levels, 1000)})
    assert (result.cells, result.infeasible) == (1 + 5, 4)  # level 0 has 10 facts: of it only all of them
    work = {item.rule: item for item in result.work}
    facts = 100 + 10 + 20 + 10 + 20
    assert work["probe_mastery"].completions == facts * 2 * 3
    assert work["probe_mastery"].read == facts * 2 * 10 and work["probe_mastery"].written == facts * 2 * 3 * 4
    trained = 10 + 2 * 16 + 2 * 50 + 100
    assert work["finetune (full)"].read == trained * (20 + 5 + 1)
    held_out = (2 + 3 + 3 + 3 + 3) + 20
    assert work["evaluate_base"].completions == held_out + 100  # and all training facts
    assert work["evaluate_base"].read == (held_out + 100) * (20 + 5)
    answers = sum(work[rule].completions for rule in ("evaluate_base", "evaluate", "evaluate_restored"))
    assert result.disk["answers"] == answers * ANSWER_BYTES + 3 * 1000 * 4  # logits of three well-known facts
    assert work["evaluate"].completions == 6 * held_out + 6 * 10
    assert work["evaluate_restored"].completions == 2 * 2 * (held_out + 10) and work["evaluate_restored"].jobs == 4
    assert work["evaluate"].written == work["evaluate"].completions * 5
    assert result.disk["deltas"] == 6 * 1e9 * DELTA_BYTES and result.disk["models"] == 2e9


def test_only_kept_deltas_stay_on_disk_and_unknown_levels_are_said() -> None:
    every, _ = small_plan({"m": Weights(1e9, 2e9, {})})
    some, _ = small_plan({"m": Weights(1e9, 2e9, {})}, keep_deltas="restored")
    assert every.cells == 10 and every.assumed == ["m"]
    assert some.disk["deltas"] == every.disk["deltas"] * 2 / 10  # 16 mixed facts, two seeds
    assert (some.jobs["keep_delta"], some.jobs["diff_weights"], every.jobs["diff_weights"]) == (2, 8, 10)


def test_the_roofline_by_hand() -> None:
    a100 = ACCELERATORS["a100"]
    # One row a pass: memory bounds. 2e9 bytes at 0.6 x 2.039e12 a second, 100 times.
    assert generating_seconds(1e9, 0, 100, 1, "bfloat16", a100) == pytest.approx(100 * 2e9 / (0.6 * 2.039e12))
    # Many rows: arithmetic bounds. 2 operations per parameter and token, at 0.4 x 312e12 a second.
    assert generating_seconds(1e9, 50, 4096, 4096, "bfloat16", a100) == pytest.approx(2e9 * 4146 / (0.4 * 312e12))
    one = training_seconds(1e9, 1000, 5, "full", "adamw", "bfloat16", 1, a100)
    assert one == pytest.approx(6e12 / (0.4 * 312e12) + 5 * 60e9 / (0.6 * 2.039e12))
    two = training_seconds(
        1e9, 1000, 5, "full", "adamw", "bfloat16", 2, a100
    )  # both wait for weights and gradients to travel
    assert two == pytest.approx(one + 5 * 2 * 12e9 / (0.6 * 300e9))
    assert starting_seconds(3, 2, 4e9) == 3 * 2 * 62


def test_the_plan_counts_the_gpus_that_the_rules_ask_for(tmp_path: Path) -> None:
    """Of every model and method of the paper's grid, on nodes of eight A100."""
    experiment = paper()
    folders = [
        "base_evaluation",
        "instruct",
        *(f"runs/{method}-mixed-60-s1" for method in experiment.finetuning.methods),
    ]
    files = [f"{model}/{folder}/outcomes.parquet" for model in experiment.models for folder in folders]
    files.append("llama-3-8b/runs/full-level0-240-s1/restored/top-transformer-1.parquet")  # of this model alone
    targets = [f"{experiment.results}/{file}" for file in files]
    machine = ("--default-resources", "gpu_gb=80", "gpus_per_node=8", "--resources", "gpu=24")
    text = planned.dry_run(tmp_path, "--printshellcmds", "--configfile", str(PAPER), *machine, "--", *targets)
    asked: dict[tuple[str, str], set[int]] = {}
    command = r"Shell command: (.*) 2> \S*/logs/(\w+)/([\w-]+)\.(?:(full|lora)-)?"
    for line, rule, model, method in re.findall(command, text):
        given = re.findall(r"--(?:gpus|nodes|nproc-per-node) (\d+)", line)  # none of a training on one GPU
        name = f"finetune ({method})" if rule == "finetune" else rule
        asked.setdefault((name, model), set()).add(math.prod(map(int, given)))
    known = Beforehand(experiment, REPOSITORY)
    sizes = {name: named_parameters(entry.source.hub) for name, entry in experiment.models.items()}
    whole = plan(experiment, known.topics(), known.models(sizes), ACCELERATORS["a100"])
    counted = {(work.rule, work.model): {work.gpus} for work in whole.work}
    assert counted["finetune (full)", "llama-3-70b"] == {24}
    assert counted == {job: asked[job] for job in counted}


def test_published_counts_give_the_papers_totals() -> None:
    topics = Beforehand(paper(), REPOSITORY).topics()
    total = {
        (domain, split): sum(topic.facts.get(split, 0) for topic in topics.values() if topic.domain == domain)
        for domain in ("in_domain", "out_of_domain")
        for split in ("train", "test")
    }
    assert total == {
        ("in_domain", "train"): 75_944,
        ("in_domain", "test"): 9_555,
        ("out_of_domain", "train"): 0,
        ("out_of_domain", "test"): 11_613,
    }
    assert sum(topic.drawable for topic in topics.values() if topic.domain == "in_domain") == 75_944 - 133
    levels = planned.published_levels()
    assert all(sum(counts["train"]) == 75_944 and sum(counts["test"]) == 9_555 for counts in levels.values())


def test_parameters_of_the_papers_models_are_those_their_vendor_states() -> None:
    models = Beforehand(paper(), REPOSITORY).models({})
    assert {name: model.parameters for name, model in models.items()} == {
        "llama-2-7b": 6_738_415_616,
        "llama-2-13b": 13_015_864_320,
        "llama-2-70b": 68_976_648_192,
        "llama-3-8b": 8_030_261_248,
        "llama-3-70b": 70_553_706_496,
    }


def test_models_are_counted_where_they_lie_else_by_their_name_else_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    entries = {
        "here": SimpleNamespace(source=SimpleNamespace(directory=str(tiny_model))),
        "named": SimpleNamespace(source=SimpleNamespace(hub="Qwen/Qwen3-1.7B-Base")),
        "silent": SimpleNamespace(source=SimpleNamespace(hub="x/y")),
    }
    facts = SimpleNamespace(source="folder")
    known = Beforehand(SimpleNamespace(results=str(tmp_path), models=entries, facts=facts), REPOSITORY)
    with pytest.raises(KnowshiftError, match="--parameters"):
        known.models({})
    models = known.models({"silent": 5e8})
    weights = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert models["here"].parameters == sum(parameter.numel() for parameter in weights.parameters())
    assert models["named"].parameters == 1.7e9 and models["silent"].parameters == 5e8


def test_the_plan_is_printed_for_people_and_for_machines(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "scripts/plan.py"), "--config", str(REPOSITORY / "config.yaml")]
    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    content = json.loads(done.stdout)
    assert content["jobs"]["finetune"] == 12 and content["jobs"]["evaluate_restored"] == 21
    assert content["gpu_hours"] == pytest.approx(sum(item["hours"] for item in content["work"]))
    assert content["bytes_at_peak"] > content["bytes_at_end"] == sum(content["disk"].values())
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "12 fine-tuned models" in done.stdout and "GPU-hours" in done.stdout and "at peak" in done.stdout
    done = subprocess.run([*command[:-1], "no.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: no.yaml does not exist")


def test_snakemake_prints_the_plan_of_its_configuration(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = planned.command("plan", "--quiet", "all", "--configfile", str(REPOSITORY / "config.yaml"))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("12 fine-tuned models") and "GPU-hours" in done.stdout
