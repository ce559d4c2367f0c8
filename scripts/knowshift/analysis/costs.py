"""The time and memory that each stage took, from the benchmark files that Snakemake writes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from knowshift.analysis.schemas import COSTS

STAGES = (
    "build_facts",
    "resolve_model",
    "resolve_instruct",
    "probe_mastery",
    "grade_mastery",
    "finetune",
    "resolve_tuned",
    "diff_weights",
    "measure_changes",
    "evaluate_base",
    "evaluate_instruct",
    "evaluate",
    "evaluate_restored",
    "evaluate_base_tasks",
    "evaluate_tasks",
)  # rules in pipeline order


def read_benchmarks(folder: Path, models: Sequence[str]) -> pd.DataFrame:
    """Read one row per job: stage, model (None if the stage has no model), and Snakemake's columns.

    Args:
        folder: The folder of STAGE/MODEL.….tsv; names of files of stages without a model begin with something else.
        models: The names of the models.
    """
    rows = []
    for path in sorted(folder.glob("*/*.tsv")):
        stem = path.name.removesuffix(".tsv")
        named = [model for model in models if stem == model or stem.startswith(f"{model}.")]
        last = pd.read_csv(path, sep="\t", na_values=["-", "NA"]).iloc[-1].to_dict()
        rows.append({"stage": path.parent.name, "model": max(named, key=len, default=None), **last})
    return pd.DataFrame(rows, columns=["stage", "model", "s", "max_rss", "cpu_time"])


def training_speeds(tables: Iterable[tuple[str, pa.Table]]) -> dict[str, float]:
    """Model to the tokens that training reads per second, over all steps of its runs.

    Args:
        tables: Pairs of a model and a table in the schema `SPEED`.
    """
    tokens: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for model, table in tables:
        time, rate = table["seconds"].to_numpy(), table["tokens_per_second"].to_numpy()
        tokens[model] = tokens.get(model, 0.0) + float((time * rate).sum())
        seconds[model] = seconds.get(model, 0.0) + float(time.sum())
    return {model: tokens[model] / seconds[model] for model in tokens if seconds[model]}


def tabulate_costs(jobs: pd.DataFrame, speeds: dict[str, float]) -> pa.Table:
    """Sum up the costs of every stage and model, in the schema `COSTS`.

    Args:
        jobs: As `read_benchmarks` gives them.
        speeds: As `training_speeds` gives them.
    """
    order = {stage: index for index, stage in enumerate(STAGES)}
    rows = []
    groups: dict[tuple[str, str | None], list[dict]] = {}
    for job in jobs.to_dict("records"):
        model = None if pd.isna(job["model"]) else job["model"]
        groups.setdefault((job["stage"], model), []).append(job)
    for (stage, model), of_stage in groups.items():
        group = pd.DataFrame(of_stage)
        rows.append(
            {
                "stage": stage,
                "model": model,
                "jobs": len(group),
                "seconds": group["s"].sum(),
                "longest": group["s"].max(),
                "cpu_seconds": _known(group["cpu_time"].sum(min_count=1)),
                "memory": _known(group["max_rss"].max()),
                "tokens_per_second": speeds.get(model) if model and stage == "finetune" else None,
            }
        )
    rows.sort(key=lambda row: (order.get(row["stage"], len(order)), row["stage"], row["model"] or ""))
    return pa.Table.from_pylist(rows, schema=COSTS)


def _known(value: Any) -> float | None:
    """A number as a column holds it: None where no job has it."""
    return None if pd.isna(value) else float(value)
