"""Stand-ins for the files of an experiment whose mastery is known, or that is finished, for tests of planning.

Snakemake plans by names, times and recorded parameters of files, and reads two kinds: the levels and the manifests of
models. All others may be empty.
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
# Snakemake's executor for --touch waits 0.1 s for each job and creates no missing file. This one does not wait, and
# creates them.
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
    """Return the facts per level: model, as configs/paper.yaml spells it, to split to a number for each level."""
    levels: dict[str, dict[str, list[int]]] = {}
    with (REPOSITORY / "resources/published/mastery_distribution.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            levels.setdefault(row["model"].lower(), {}).setdefault(row["split"], []).append(int(row["facts"]))
    return levels


def configuration() -> dict:
    """A configuration of the facts that come with the project, for tests that the user's config.yaml must not change."""
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
    """Write a file that is empty, or has some content, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def know_mastery(experiment: Mapping, folder: Path, levels: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
    """Write stand-ins for everything up to the levels.

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
    """Return the command line of Snakemake under the default profile."""
    return [sys.executable, "-m", "snakemake", *_common(snakefile), *arguments]


def _common(snakefile: Path) -> list[str]:
    return ["--snakefile", str(snakefile), "--workflow-profile", str(REPOSITORY / "profiles/default")]


def finish(folder: Path, *arguments: str) -> None:
    """Create every missing file and record all jobs as done, so that the experiment counts as finished."""
    run = [sys.executable, "-c", TOUCH, *_common(REPOSITORY / "Snakefile"), "--touch", "--forceall", *arguments]
    done = subprocess.run(
        [*run, "--scheduler", "greedy", "--quiet", "all"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def job_counts(output: str) -> dict[str, int]:
    """Read the number of jobs of each rule from the table that a dry run prints first."""
    table = output.partition("job ")[2].partition("total")[0].splitlines()[2:]
    return {line.split()[0]: int(line.split()[1]) for line in table if line.split()}


def dry_run(folder: Path, *arguments: str, **environment: str) -> str:
    """Return what a dry run prints; more keyword arguments are environment variables."""
    done = subprocess.run(
        command("--dry-run", *arguments),
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr
