"""What the report says in numbers, from the study's tables."""

from collections.abc import Mapping

import pandas as pd

Tables = Mapping[str, pd.DataFrame]


def summarise(tables: Tables) -> dict:
    """The values that the report's page shows.

    Args:
        tables: the study's tables over all models, with a column `model`; and `facts`, which has none.

    Returns:
        models: per model what was levelled, its accuracy before, its runs, and what restoration did;
        facts: the facts of every topic and the rows left out; infeasible: the cells that could not be run;
        planned, run: numbers of cells.
    """
    tables = dict(tables)
    facts = tables.pop("facts")
    cells = tables["cells"]
    missing = cells[cells["state"] == "infeasible"]
    return {
        "models": [
            _model(name, {key: table[table["model"] == name] for key, table in tables.items()})
            for name in cells["model"].unique()
        ],
        "facts": facts.to_dict("records"),
        "infeasible": missing[["model", "run", "data", "size", "facts"]].to_dict("records"),
        "planned": len(cells),
        "run": len(cells) - len(missing),
    }


def _model(name: str, tables: Tables) -> dict:
    cells = tables["cells"][["run", "data", "facts", "seed"]]
    before = tables["accuracy"][tables["accuracy"]["run"] == "base"].set_index("set")["accuracy"]
    return {
        "name": name,
        "mastery": _mastery(tables["mastery"]),
        "before": {key: _known(before.get(key)) for key in ("test", "test_ood")},
        "scores": _scores(tables["accuracy"], tables["training_accuracy"], cells),
        "divergences": _means(
            tables["divergence"].merge(cells, on="run"), ["data", "facts_y", "set"], ["kl", "accuracy_level4"]
        ),
        "concentration": _concentration(tables["concentration"].merge(cells, on="run")),
        "restored": _restored(tables["restored"].merge(cells, on="run")),
    }


def _known(value: float | None) -> float | None:
    """The value, None where it is missing."""
    return None if value is None or pd.isna(value) else float(value)


def _means(table: pd.DataFrame, by: list[str], of: list[str]) -> list[dict]:
    means = table.groupby(by, sort=True)[of].mean().reset_index()
    return [
        {key: _known(value) if key in of else value for key, value in row.items()} for row in means.to_dict("records")
    ]


def _mastery(table: pd.DataFrame) -> list[dict]:
    """Facts per level, a row for each domain and split."""
    rows = []
    for (domain, split), group in table.groupby(["domain", "split"]):
        counts = group.groupby("level")["facts"].sum()
        rows.append({"domain": domain, "split": split, "levels": counts.tolist(), "facts": int(counts.sum())})
    return rows


def _scores(accuracy: pd.DataFrame, training: pd.DataFrame, cells: pd.DataFrame) -> list[dict]:
    """Mean and spread over seeds of every data kind and size."""
    wide = accuracy.pivot(index="run", columns="set", values="accuracy")
    wide = cells.merge(wide.reindex(columns=["test", "test_ood"]), on="run").merge(
        training[["run", "before", "after"]], on="run", how="left"
    )
    rows = []
    for (data, facts), group in wide.groupby(["data", "facts"]):
        values = {
            name: {
                "mean": _known(group[name].mean(skipna=False)),
                "low": _known(group[name].min()),
                "high": _known(group[name].max()),
            }
            for name in ("test", "test_ood", "before", "after")
        }
        rows.append({"data": data, "facts": int(facts), "seeds": len(group), **values})
    return rows


def _concentration(table: pd.DataFrame) -> dict:
    """The share of the total change per percent, mean over the runs of the largest size, and how many exact zeros."""
    if not len(table):
        return {"rows": [], "zeros": 0, "parameters": 0, "unchanged": 0.0}
    largest = table[table["facts"] == table["facts"].max()]
    first = largest.iloc[0]
    return {
        "rows": _means(largest, ["region", "percent"], ["share", "share_without_zeros"]),
        "zeros": int(first["zero_before"]),
        "parameters": int(first["parameters"]),
        "unchanged": float((largest["unchanged"] / largest["parameters"]).mean()),
    }


def _restored(table: pd.DataFrame) -> dict:
    """The shares restored, and every sweep as a row: accuracy and gain per share, None where it was not run."""
    table = table[table["set"].isin(["test", "test_ood"])]
    percents = sorted(table["percent"].unique().tolist())
    rows = []
    keys = ["run", "data", "facts", "strategy", "region", "set"]
    for key, group in table.groupby(keys, sort=False):
        by_percent = {row["percent"]: row for row in group.to_dict("records")}
        shares = [
            {name: _known(by_percent.get(percent, {}).get(name)) for name in ("accuracy", "gain")}
            for percent in percents
        ]
        rows.append({**dict(zip(keys, key, strict=True)), "shares": shares})
    return {"percents": percents, "rows": rows}
