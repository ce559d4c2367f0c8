"""What each stage took, from the benchmark files that Snakemake writes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

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
    "diff_weights",
    "measure_changes",
    "evaluate_base",
    "evaluate_instruct",
    "evaluate",
    "evaluate_restored",
)  # in pipeline order


def read_benchmarks(folder: Path, models: Sequence[str]) -> pd.DataFrame:
    """A row per job: stage, model (None: of no one model), and Snakemake's columns.

    Args:
        folder: holds STAGE/MODEL.….tsv; of stages without a model the name says something else.
        models: names of models.
    """
    rows = []
    for path in sorted(folder.glob("*/*.tsv")):
        stem = path.name.removesuffix(".tsv")
        named = [model for model in models if stem == model or stem.startswith(f"{model}.")]
        last = pd.read_csv(path, sep="\t", na_values=["-", "NA"]).iloc[-1].to_dict()
        rows.append({"stage": path.parent.name, "model": max(named, key=len, default=None), **last})
    return pd.DataFrame(rows, columns=["stage", "model", "s", "max_rss", "cpu_time"])


def training_speeds(tables: Iterable[tuple[str, pa.Table]]) -> dict[str, float]:
    """Tokens that training reads in a second, over all steps of a model's runs.

    Args:
        tables: (model, a table in the schema `SPEED`).
    """
    tokens: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for model, table in tables:
        time, rate = table["seconds"].to_numpy(), table["tokens_per_second"].to_numpy()
        tokens[model] = tokens.get(model, 0.0) + float((time * rate).sum())
        seconds[model] = seconds.get(model, 0.0) + float(time.sum())
    return {model: tokens[model] / seconds[model] for model in tokens if seconds[model]}


def tabulate_costs(jobs: pd.DataFrame, speeds: dict[str, float]) -> pa.Table:
    """Costs per stage and model, in the schema `COSTS`."""
    order = {stage: place for place, stage in enumerate(STAGES)}
    rows = []
    for (stage, model), group in jobs.groupby(["stage", "model"], dropna=False):
        named = None if pd.isna(model) else model
        rows.append(
            {
                "stage": stage,
                "model": named,
                "jobs": len(group),
                "seconds": group["s"].sum(),
                "longest": group["s"].max(),
                "cpu_seconds": _known(group["cpu_time"].sum(min_count=1)),
                "memory": _known(group["max_rss"].max()),
                "tokens_per_second": speeds.get(named) if stage == "finetune" else None,
            }
        )
    rows.sort(key=lambda row: (order.get(row["stage"], len(order)), row["stage"], row["model"] or ""))
    return pa.Table.from_pylist(rows, schema=COSTS)


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
