"""What Snakemake plans: the paper's grid, a target per stage, overrides, use as a module, and what the plan counts."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

import planned
import tiny
from knowshift.configuration import checking, sections
from knowshift.planning.accelerators import ACCELERATORS
from knowshift.planning.inventory import Inventory
from knowshift.planning.plan import make_plan
from knowshift.report import contents
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
# One model, five levels, five seeds: seven shares at two sizes; eight blocks of four layers at 1,920 facts, each with
# a histogram.
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
    "evaluate_restored": SHARES // 7 + BLOCKS,  # one process for all that is restored of a cell and region
    "keep_restored": SHARES + BLOCKS,
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
    known = Inventory(paper(), REPOSITORY)
    whole = make_plan(paper(), known.topics(), known.models({}), ACCELERATORS["h100"])
    assert {rule: count for rule, count in whole.jobs.items() if count} == CELL_JOBS | EARLIER_JOBS
    assert (whole.cells, whole.infeasible, whole.levels_unknown) == (CELLS, 0, [])


def test_before_mastery_is_known_it_is_planned_up_to_there_and_said_what_follows(tmp_path: Path) -> None:
    text = planned.dry_run(tmp_path, "--configfile", str(PAPER))
    counts = planned.job_counts(text)
    assert counts.items() >= EARLIER_JOBS.items() and "finetune" not in counts
    follows = f"{CELLS // MODELS} fine-tuned models and {SHARES + BLOCKS} restored ones follow"
    assert text.count(f"llama-3-8b: planned up to its mastery. If every level has facts enough, {follows}") == 1
    assert text.count("planned up to its mastery") == MODELS


@pytest.mark.parametrize(
    ("finetuning", "splits", "says"),
    [
        ({"sizes": [5000]}, {}, "finetuning.sizes: the smallest is 5,000, and only 80 facts can be trained on"),
        ({}, {"test": []}, "none of its topics has a test fact"),
        ({}, {"train": []}, "none of its topics has a train fact"),
    ],
)
def test_an_experiment_that_can_measure_nothing_ends_before_it_is_probed(
    tiny_facts: Path, tmp_path: Path, finetuning: dict, splits: dict, says: str
) -> None:
    shutil.copytree(tiny_facts, tmp_path / "mine")
    for split, rows in splits.items():
        for path in (tmp_path / "mine/raw" / split).iterdir():
            path.write_text(json.dumps(rows))
    content = tiny.configuration(tmp_path / "mine", tmp_path)
    content["finetuning"] |= finetuning
    content["restoration"] = [{"percents": [20]}]
    content.pop("exports", None)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    done = subprocess.run(planned.command("--dry-run"), cwd=tmp_path, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and says in said and "Traceback" not in said and "probe_mastery" not in said


EXPORT = {"model": "tiny", "percent": 20}


def test_an_export_of_more_facts_than_there_are_ends_before_anything_is_probed(
    tiny_facts: Path, tmp_path: Path
) -> None:
    content = tiny.configuration(tiny_facts, tmp_path)
    content["exports"] = [{**EXPORT, "run": "full-mixed-80-s9"}, {**EXPORT, "run": "full-mixed-81-s1"}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    done = subprocess.run(planned.command("--dry-run"), cwd=tmp_path, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in said and "probe_mastery" not in said
    assert "exports.1.run: full-mixed-81-s1 is trained on 81 facts of the kind mixed, and only 80 are there" in said


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
        (
            "restorations",
            {"evaluate_restored": 3, "keep_restored": 5, "finetune": RUNS, "measure_changes": RUNS + 1},
            {"evaluate", "plot"},
        ),
        ("report", {"evaluate": RUNS, "evaluate_restored": 3, "keep_restored": 5, "report": 1}, {"export_model"}),
        ("export", {"export_model": 2, "finetune": 1}, {"evaluate", "report"}),
    ],
)
def test_every_stage_is_a_target(known: Path, target: str, some: dict[str, int], absent: set[str]) -> None:
    counts = planned.job_counts(planned.dry_run(known, target, "--quiet", "rules"))
    assert counts.items() >= some.items() and not absent & counts.keys()


@pytest.mark.parametrize("target", ["all", "export"])
def test_an_export_of_more_facts_than_its_level_has_ends_where_levels_are_known(known: Path, target: str) -> None:
    content = yaml.safe_load((known / "config.yaml").read_text())
    content["exports"] = [{**EXPORT, "run": "full-level4-150-s9"}, {**EXPORT, "run": "full-level4-151-s1"}]
    (known / "config.yaml").write_text(yaml.safe_dump(content))
    command = planned.command("--dry-run", target)
    done = subprocess.run(command, cwd=known, capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "full-level4-15" in line]
    said = "exports.1.run: full-level4-151-s1 is trained on 151 facts of the kind level4, and only 150 are there"
    assert done.returncode == 1 and lines and all(said in line for line in lines)
    content["exports"].pop()
    (known / "config.yaml").write_text(yaml.safe_dump(content))
    assert "/exports/full-level4-150-s9/" in planned.dry_run(known, target)


def test_a_report_on_some_models_needs_nothing_of_the_others(known: Path) -> None:
    content = yaml.safe_load((known / "config.yaml").read_text())
    content["models"]["other"] = content["models"]["tiny"]
    (known / "config.yaml").write_text(yaml.safe_dump(content))
    both = planned.job_counts(planned.dry_run(known, "report", "--quiet", "rules"))
    one = planned.job_counts(planned.dry_run(known, "report", "--quiet", "rules", "--config", 'report_on=["tiny"]'))
    assert both["resolve_model"] == 1 and both["probe_mastery"] > 0  # nothing is known of the other yet
    assert one["analyse_model"] == one["report"] == 1 and one["evaluate"] == RUNS
    assert not {"resolve_model", "probe_mastery"} & one.keys()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("regions", ["40-45"], "models.tiny: region 40-45: the model has no layer 40; it has 2, from 0"),
        ("named_regions", {"values": "no_such"}, "models.tiny: no tensor is in the region 'no_such'"),
        (
            "lora",
            {"targets": ["query_key_value"]},
            "finetuning.lora.targets: the model has no layer called",
        ),
    ],
)
@pytest.mark.parametrize("place", ["source", "base"])
def test_what_a_model_that_is_there_lacks_is_said_before_anything_runs(
    known: Path, tiny_model: Path, key: str, value: object, said: str, place: str
) -> None:
    content = yaml.safe_load((known / "config.yaml").read_text())
    (content["finetuning"] if key == "lora" else content)[key] = value
    shutil.rmtree(known / "results/tiny/base")
    if place == "source":
        content["models"]["tiny"]["source"]["directory"] = str(tiny_model)
    else:
        shutil.copytree(tiny_model, known / "results/tiny/base", dirs_exist_ok=True)
    (known / "config.yaml").write_text(yaml.safe_dump(content))
    done = subprocess.run(planned.command("--dry-run"), cwd=known, capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if said in line]
    assert done.returncode == 1 and lines and "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 100])
def test_damaged_level_counts_are_named_with_what_to_do(known: Path, content: bytes) -> None:
    levels = known / "results/tiny/levels.parquet"
    levels.write_bytes(content)
    done = subprocess.run(planned.command("--dry-run"), cwd=known, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in said
    (line,) = {line.strip() for line in said.splitlines() if "levels.parquet" in line}
    assert "is not a readable Parquet file" in line and line.endswith("delete it, and the next run makes it again")
    levels.unlink()
    assert planned.job_counts(planned.dry_run(known, "--quiet", "rules"))["count_levels"] == 1


def test_the_shares_that_are_restored_reach_the_table_of_concentration(known: Path) -> None:
    entries = [{"percents": [15, 2]}, {"percents": [7], "strategy": "random"}, {"percents": [9], "region": "mlp"}]
    settings = ("--config", f"restoration={json.dumps(entries)}", 'regions=["transformer", "mlp"]')
    text = planned.dry_run(known, "results/tiny/tables/concentration.parquet", "--printshellcmds", *settings)
    spec = re.search(r"tabulate_model\.py .* --spec '(.*?)'", text)
    assert spec and json.loads(spec[1])["percents"] == {"transformer": [2, 15], "mlp": [9]}


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
    assert done.stdout.count("label =") <= 26 and "->" in done.stdout
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


# --- the plan beside Snakemake's own ---


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
    known = Inventory(experiment, REPOSITORY)
    sizes = {name: named_parameters(entry.source.hub) for name, entry in experiment.models.items()}
    whole = make_plan(experiment, known.topics(), known.models(sizes), ACCELERATORS["a100"])
    counted = {(work.rule, work.model): {work.gpus} for work in whole.work}
    assert counted["finetune (full)", "llama-3-70b"] == {24}
    assert counted == {job: asked[job] for job in counted}


def test_snakemake_prints_the_plan_of_its_configuration(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["XDG_CACHE_HOME"] = str(tmp_path)  # this machine is measured anew
    command = planned.command("plan", "--quiet", "all", "--configfile", str(REPOSITORY / "config.yaml"))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.match(r"\d+ fine-tuned models\n", done.stdout) and "GPU-hours" in done.stdout
    assert ("On this machine" in done.stdout) == (shutil.which("nvidia-smi") is None)
