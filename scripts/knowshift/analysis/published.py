"""The numbers that the paper publishes, in one table, with the model of this run that each belongs to."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa

from knowshift.analysis.schemas import PUBLISHED

# File name to the column that holds its value, and the number that the value is divided by.
VALUES = {
    "accuracy_1920": ("accuracy", 100),
    "mastery_distribution": ("facts", 1),
    "restored_accuracy": ("accuracy", 100),
    "restored_layer_blocks": ("accuracy", 100),
    "restored_share_by_layer": ("share_percent", 100),
    "restored_share_by_module": ("share_percent", 100),
    "restored_train_accuracy": ("accuracy", 100),
    "strategies": ("accuracy", 100),
    "update_concentration": ("share_of_total_change_percent", 100),
}
_NAMES = {
    "train_data": "data",
    "train_size": "size",
    "split": "set",
    "test_level": "level",
    "restored_percent": "percent",
    "top_percent": "percent",
    "layer": "layers",
}
_NUMBERS = {"size": int, "level": int, "percent": float, "spread": float}


def paper_models(folder: Path, sources: Mapping[str, str | None]) -> dict[str, str]:
    """Model to the paper's name of it, for the models of this run that the paper has too.

    Args:
        folder: The folder of the published files; its models.csv names repositories of the Hugging Face hub.
        sources: Model to its repository on the hub; a model from elsewhere (None) is recognised by its name.
    """
    with (folder / "models.csv").open(encoding="utf-8", newline="") as file:
        hubs = {row["hub"]: row["model"] for row in csv.DictReader(file)}
    names = {_plain(model): model for model in hubs.values()}
    found = {name: hubs.get(hub) if hub else names.get(_plain(name)) for name, hub in sources.items()}
    return {name: model for name, model in found.items() if model}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_published(folder: Path, ours: Mapping[str, str]) -> pa.Table:
    """Read all files into one table, in the schema `PUBLISHED`.

    Args:
        folder: The folder of the published files.
        ours: Model to the paper's name of it.
    """
    runs = {model: name for name, model in ours.items()}
    rows = []
    for source, (column, scale) in VALUES.items():
        table = pd.read_csv(folder / f"{source}.csv", dtype=str, keep_default_na=False)
        for row in table.rename(columns=_NAMES).to_dict("records"):
            if row.get("level") == "mean":
                del row["level"]
            kept = {name: row[name] for name in PUBLISHED.names if row.get(name)}
            numbers = {name: kind(kept[name]) for name, kind in _NUMBERS.items() if name in kept}
            if "spread" in numbers:
                numbers["spread"] /= scale
            value = float(row[column]) / scale
            rows.append({"source": source, **kept, **numbers, "of": runs.get(row["model"]), "value": value})
    return pa.Table.from_pylist([{name: row.get(name) for name in PUBLISHED.names} for row in rows], schema=PUBLISHED)
