"""Printed tables of relative changes of parameters, and of what restoring parameters does."""

import re

import pandas as pd

from knowshift.report.frames import SIGNIFICANT, Frames
from knowshift.report.tables.layout import SET_HEADINGS, PrintedTable, TableCell, naming, percent, pivot, spread_percent
from knowshift.weights.regions import LAYERS

TONES = (
    "Blue is above the same model with nothing restored (0 %), orange below; bold where a paired permutation test tells"
    " them apart after Holm's correction (p < 0.05)."
)


def concentration(frames: Frames) -> PrintedTable:
    """Print how much of the summed relative change the most changed parameters hold."""
    cells = frames["cells"][["model", "run", "method", "data", "facts"]].rename(columns={"facts": "size"})
    table = frames["concentration"].merge(cells, on=["model", "run"])
    keys = ["model", "method", "data", "size", "region", "of", "percent"]
    long = pd.concat(
        [table.assign(of="all"), table.assign(of="without exact zeros", share=table["share_without_zeros"])]
    )
    long = long.groupby(keys)["share"].agg(["mean", "std"]).reset_index()
    across = {(share,): f"{share:g} %" for share in sorted(table["percent"].unique())}
    regions = {"region": "region"} if table["region"].nunique() > 1 else {}
    named = {**naming(table, "data", "size"), **regions, "of": "parameters"}
    columns, rows = pivot(
        long, named, across, ["percent"], lambda row: TableCell(spread_percent(row["mean"], row["std"]))
    )
    title = (
        "Share of the summed relative change, in percent, that the most changed parameters hold (mean ± over seeds)."
    )
    return PrintedTable(title, columns, rows)


def restored(frames: Frames) -> PrintedTable:
    """Print accuracy on held-out questions by share of parameters restored."""
    table = frames["restorations"]
    table = table[table["set"].isin(SET_HEADINGS) & ~_is_block(table)]
    return _by_share(table, f"Accuracy in percent by share of parameters restored. {TONES}")


def restored_training(frames: Frames) -> PrintedTable:
    """Print accuracy on each model's own training set by share of parameters restored."""
    table = frames["restorations"]
    table = table[(table["set"] == "training_set") & ~_is_block(table)]
    title = f"Share of its own training set that a model answers, in percent, by share of parameters restored. {TONES}"
    return _by_share(table, title)


def restored_by_layer(frames: Frames) -> PrintedTable:
    """Print how the restored parameters spread over layers."""
    return _where(frames["restored_layers"], "layer")


def restored_by_module(frames: Frames) -> PrintedTable:
    """Print how the restored parameters spread over modules."""
    return _where(frames["restored_modules"], "module")


def restored_blocks(frames: Frames) -> PrintedTable:
    """Print accuracy with whole blocks of layers restored."""
    table = frames["restorations"]
    table = table[table["set"].isin(SET_HEADINGS) & _is_block(table)]
    nothing = (
        table[table["percent"] == 0]
        .assign(region="nothing")
        .drop_duplicates(["model", "method", "data", "size", "set"])
    )
    table = pd.concat([nothing, table[table["percent"] == 100]])
    regions = sorted(
        set(table["region"]) - {"nothing"}, key=lambda region: [int(number) for number in re.findall(r"\d+", region)]
    )
    across = {("nothing",): "nothing", **{(region,): f"layers {region}" for region in regions}}
    table = table.assign(set=table["set"].map(SET_HEADINGS))
    columns, rows = pivot(
        table, {**naming(table, "data", "size"), "set": "questions"}, across, ["region"], _restored_cell
    )
    title = f"Accuracy in percent with all parameters of some layers restored. {TONES}"
    return PrintedTable(title, columns, rows)


def _is_block(table: pd.DataFrame) -> pd.Series:
    """Tell which restorations are of a block of layers, such as 0-3, and not of a region with a name."""
    return table["region"].str.fullmatch(LAYERS).astype(bool)


def _by_share(table: pd.DataFrame, title: str) -> PrintedTable:
    """Lay out restorations with a column per share of parameters restored."""
    across = {(share,): f"{share:g} %" for share in sorted(table["percent"].unique())}
    more = {column: column for column in ("strategy", "region") if table[column].nunique() > 1}
    questions = {"set": "questions"} if table["set"].nunique() > 1 else {}
    named = {**naming(table, "data", "size", "seeds"), **more, **questions}
    table = table.assign(set=table["set"].replace(SET_HEADINGS))
    columns, rows = pivot(table, named, across, ["percent"], _restored_cell)
    return PrintedTable(title, columns, rows)


def _restored_cell(row: dict) -> TableCell:
    """Show the accuracy of a restoration, coloured by its gain."""
    gain = row["gain"]
    tone = "" if pd.isna(gain) or not row["percent"] or gain == 0 else "gain" if gain > 0 else "loss"
    return TableCell(spread_percent(row["accuracy"], row["spread"]), tone, bool(row["p_corrected"] < SIGNIFICANT))


def _where(table: pd.DataFrame, part: str) -> PrintedTable:
    """Lay out the shares of restored parameters that lie in each layer or module.

    Args:
        part: "layer" or "module", the column of `table` that names it.
    """
    table = table[(table["strategy"] == "top") & (table["region"] == "transformer")]
    means = table.groupby(["model", part, "percent"])[["share", "share_of_parameters"]].mean().reset_index()
    sizes = means.assign(percent=-1.0, share=means["share_of_parameters"]).drop_duplicates(["model", part])
    shares = {(share,): f"of {share:g} %" for share in sorted(means["percent"].unique())}
    columns, rows = pivot(
        pd.concat([sizes, means]),
        {**naming(means), part: part},
        {(-1.0,): "of all parameters", **shares},
        ["percent"],
        lambda row: TableCell(percent(row["share"], 2)),
    )
    title = (
        f"Where the restored parameters lie: share in percent of each {part}, mean over cells; beside it the {part}'s"
        " share of all parameters."
    )
    return PrintedTable(title, columns, rows)
