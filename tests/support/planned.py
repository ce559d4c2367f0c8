"""Writes the files that Snakemake needs to plan an experiment whose mastery is known, or that is finished; no models.

Planning looks at times, names and recorded parameters, and reads two kinds of file: the levels and the models'
manifests.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from knowshift.facts.source_rows import PROBED_SPLITS as SPLITS
from knowshift.mastery.schemas import LEVEL_COUNTS

REPOSITORY = Path(__file__).parents[2]
# Replaces Snakemake's executor for --touch, which waits 0.1 s for each job and makes no files, by one that makes them.
TOUCH = """
import sys
from snakemake import cli
from snakemake.executors import touch
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

def run_job(self, job):
    for file in job.output:
        file.touch_or_create()
    self.report_job_submission(SubmittedJobInfo(job=job))
    self.report_job_success(SubmittedJobInfo(job=job))

touch.Executor.run_job = run_job
cli.main(sys.argv[1:])
"""


def published_levels() -> dict[str, dict[str, list[int]]]:
    """Facts per level of each split of the paper's models, in the spelling of configs/paper.yaml."""
    levels: dict[str, dict[str, list[int]]] = {}
    with (REPOSITORY / "resources/published/mastery_distribution.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            levels.setdefault(row["model"].lower(), {}).setdefault(row["split"], []).append(int(row["facts"]))
    return levels


def configuration() -> dict:
    """A configuration of the project's own facts, for tests that the user's config.yaml must not change."""
    return {
        "results": "results",
        "models": {"smollm2-135m": {"source": {"hub": "owner/smollm2-135m", "revision": "0" * 40}}},
        "facts": {
            "source": "folder",
            "path": "resources/facts",
            "in_domain": ["city_country", "city_state", "country_capital", "country_continent"],
            "out_of_domain": ["country_language", "country_currency", "symbol_element"],
        },
        "mastery": {"templates": 3, "samples": 4, "max_new_tokens": 8, "dtype": "bfloat16"},
        "finetuning": {"data": ["level0", "level2", "mixed"], "sizes": [30, 100], "seeds": [1, 2]},
        "evaluation": {"per_level": {"dev": 4, "test": 25, "test_ood": 15}, "training_set": 30, "max_new_tokens": 10},
        "restoration": [{"sizes": [100], "seeds": [1], "percents": [1, 3, 5, 10, 20, 40, 60]}],
    }


def empty(path: Path, content: str = "") -> None:
    """Write a file, empty by default, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def know_mastery(experiment: Mapping, folder: Path, levels: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
    """Put everything up to the levels in place.

    Args:
        experiment: a configuration, as in YAML; its paths are relative to `folder`.
        folder: where Snakemake will run.
        levels: model to split (train, test, test_ood) to facts per level.
    """
    results, facts = folder / experiment["results"], experiment["facts"]
    empty(results / "raw/manifest.json")
    units = [(topic, domain) for domain in SPLITS for topic in facts[domain]]
    for topic, _ in units:
        empty(results / f"facts/{topic}.parquet")
    for model, counts in levels.items():
        empty(results / model / "base/manifest.json", json.dumps({"files": {"model.safetensors": {"bytes": 10**10}}}))
        for topic, domain in units:
            for split in SPLITS[domain]:
                empty(results / model / f"completions/{topic}.{split}.parquet")
        empty(results / model / "mastery.parquet")
        rows = [
            {
                "domain": "out_of_domain" if kind.endswith("_ood") else "in_domain",
                "topic": facts["in_domain"][0],
                "split": kind.removesuffix("_ood"),
                "level": level,
                "facts": number,
                "drawable": number if kind == "train" else 0,
            }
            for kind, numbers in counts.items()
            for level, number in enumerate(numbers)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=LEVEL_COUNTS), results / model / "levels.parquet")


def command(*arguments: str, snakefile: Path = REPOSITORY / "Snakefile") -> list[str]:
    """The command line of Snakemake under the default profile."""
    return [sys.executable, "-m", "snakemake", *_common(snakefile), *arguments]


def _common(snakefile: Path) -> list[str]:
    return ["--snakefile", str(snakefile), "--workflow-profile", str(REPOSITORY / "profiles/default")]


def finish(folder: Path, *arguments: str) -> None:
    """Make every file that is missing, empty, and record all jobs as done: a finished experiment."""
    run = [sys.executable, "-c", TOUCH, *_common(REPOSITORY / "Snakefile"), "--touch", "--forceall", *arguments]
    done = subprocess.run(
        [*run, "--scheduler", "greedy", "--quiet", "all"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def job_counts(output: str) -> dict[str, int]:
    """Rule to number of jobs, from what a dry run prints first."""
    table = output.partition("job ")[2].partition("total")[0].splitlines()[2:]
    return {line.split()[0]: int(line.split()[1]) for line in table if line.split()}


def dry_run(folder: Path, *arguments: str, **environment: str) -> str:
    """What a dry run prints."""
    done = subprocess.run(
        command("--dry-run", *arguments),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr
