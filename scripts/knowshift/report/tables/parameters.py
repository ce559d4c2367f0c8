"""Printed tables of relative changes and of what restoring them does."""

import re
from collections.abc import Mapping

import pandas as pd

from knowshift.report.tables.layout import SETS, Cell, Printed, naming, percent, pivot, reason, spread_percent
from knowshift.weights.regions import LAYERS

Tables = Mapping[str, pd.DataFrame]
SURE = 0.05  # p after correction


def concentration(tables: Tables) -> Printed:
    """How much of the total relative change the most changed parameters hold."""
    cells = tables["cells"][["model", "run", "method", "data", "facts"]].rename(columns={"facts": "size"})
    table = tables["concentration"].merge(cells, on=["model", "run"])
    keys = ["model", "method", "data", "size", "region", "of", "percent"]
    long = pd.concat(
        [table.assign(of="all"), table.assign(of="without exact zeros", share=table["share_without_zeros"])]
    )
    long = long.groupby(keys)["share"].agg(["mean", "std"]).reset_index()
    across = {(share,): f"{share:g} %" for share in sorted(table["percent"].unique())}
    named = {
        **naming(table, "data", "size"),
        **({"region": "region"} if table["region"].nunique() > 1 else {}),
        "of": "parameters",
    }
    columns, rows = pivot(long, named, across, ["percent"], lambda row: Cell(spread_percent(row["mean"], row["std"])))
    title = (
        "Share of the summed relative change, in percent, that the most changed parameters hold (mean ± over seeds)."
    )
    return Printed("concentration", "concentration", title, columns, rows, reason(rows))


def _is_block(table: pd.DataFrame) -> pd.Series:
    return table["region"].map(lambda region: re.fullmatch(LAYERS, region) is not None).astype(bool)


def _by_share(name: str, table: pd.DataFrame, title: str) -> Printed:
    across = {(share,): f"{share:g} %" for share in sorted(table["percent"].unique())}
    more = {column: column for column in ("strategy", "region") if table[column].nunique() > 1}
    questions = {"set": "questions"} if table["set"].nunique() > 1 else {}
    named = {**naming(table, "data", "size", "seeds"), **more, **questions}
    table = table.assign(set=table["set"].map(lambda name: SETS.get(name, name)))
    columns, rows = pivot(table, named, across, ["percent"], _restored_cell)
    return Printed(name, "restorations", title, columns, rows, reason(rows))


def _restored_cell(row: dict) -> Cell:
    gain = row["gain"]
    tone = "" if pd.isna(gain) or not row["percent"] or gain == 0 else "gain" if gain > 0 else "loss"
    return Cell(spread_percent(row["accuracy"], row["spread"]), tone, bool(row["p_corrected"] < SURE))


TONES = "Blue is above the same model with nothing restored (0 %), orange below; bold where a paired permutation test tells them apart after Holm's correction (p < 0.05)."  # fmt: skip


def restored(tables: Tables) -> Printed:
    """Accuracy by share of parameters restored."""
    table = tables["restorations"]
    table = table[table["set"].isin(SETS) & ~_is_block(table)]
    return _by_share("restored", table, f"Accuracy in percent by share of parameters restored. {TONES}")


def restored_training(tables: Tables) -> Printed:
    """The same on each model's own training set."""
    table = tables["restorations"]
    table = table[(table["set"] == "training_set") & ~_is_block(table)]
    return _by_share(
        "restored_training",
        table,
        f"Share of its own training set that a model answers, in percent, by share of parameters restored. {TONES}",
    )


def restored_by_layer(tables: Tables) -> Printed:
    """Where restored parameters lie, by layer."""
    return _where("restored_by_layer", tables["restored_layers"], "layer")


def restored_by_module(tables: Tables) -> Printed:
    """Where restored parameters lie, by module."""
    return _where("restored_by_module", tables["restored_modules"], "module")


def _where(name: str, table: pd.DataFrame, part: str) -> Printed:
    table = table[(table["strategy"] == "top") & (table["region"] == "transformer")]
    keys = ["model", part, "percent"]
    means = table.groupby(keys)[["share", "share_of_parameters"]].mean().reset_index()
    sizes = means.assign(percent=-1.0, share=means["share_of_parameters"]).drop_duplicates(["model", part])
    across = {(-1.0,): "of all parameters"} | {
        (share,): f"of {share:g} %" for share in sorted(means["percent"].unique())
    }
    columns, rows = pivot(
        pd.concat([sizes, means]),
        {**naming(means), part: part},
        across,
        ["percent"],
        lambda row: Cell(percent(row["share"], 2)),
    )
    title = f"Where the restored parameters lie: share in percent of each {part}, mean over cells; beside it the {part}'s share of all parameters."
    return Printed(name, f"restored_{part}s", title, columns, rows, reason(rows))


def restored_blocks(tables: Tables) -> Printed:
    """Accuracy with whole blocks of layers restored."""
    table = tables["restorations"]
    table = table[table["set"].isin(SETS) & _is_block(table)]
    nothing = (
        table[table["percent"] == 0]
        .assign(region="nothing")
        .drop_duplicates(["model", "method", "data", "size", "set"])
    )
    table = pd.concat([nothing, table[table["percent"] == 100]])
    regions = sorted(
        set(table["region"]) - {"nothing"}, key=lambda region: [int(number) for number in re.findall(r"\d+", region)]
    )
    across = {(region,): f"layers {region}" if region != "nothing" else "nothing" for region in ["nothing", *regions]}
    table = table.assign(set=table["set"].map(SETS))
    columns, rows = pivot(
        table, {**naming(table, "data", "size"), "set": "questions"}, across, ["region"], _restored_cell
    )
    title = f"Accuracy in percent with all parameters of some layers restored. {TONES}"
    return Printed("restored_blocks", "restorations", title, columns, rows, reason(rows))
