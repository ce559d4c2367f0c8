"""Printed tables of relative changes of parameters, and of what restoring parameters does."""

import re

import pandas as pd

from knowshift.report.figures.lines import REFERENCE_NAMES
from knowshift.report.frames import SIGNIFICANT, Frames
from knowshift.report.tables.layout import (
    SET_HEADINGS,
    PrintedTable,
    TableCell,
    absent,
    naming,
    percent,
    pivot,
    points,
    spread_percent,
)
from knowshift.weights.regions import LAYERS

TONES = (
    "Blue is above the same model with nothing restored (0 %), orange below; bold where a paired permutation test tells"
    " them apart after Holm's correction (p < 0.05)."
)


BASELINES = "beside what answers without fine-tuning here"

# What the most changed parameters hold a share of: column of the table, column of its null line, heading.
HELD = (
    ("share_without_zeros", "null_share", "sum of r"),
    ("share_of_absolute", "null_share_of_absolute", "sum of |d|"),
    ("share_of_squares", "null_share_of_squares", "sum of d²"),
)


def _with_cells(frames: Frames, name: str) -> pd.DataFrame:
    """Return a table about runs with the method, the data kind and the size of each run."""
    cells = frames["cells"][["model", "run", "method", "data", "facts"]].rename(columns={"facts": "size"})
    return frames[name].merge(cells, on=["model", "run"])


def concentration(frames: Frames) -> PrintedTable:
    """Print how much of the change the most changed parameters hold, the null line, and what is above it."""
    table = _with_cells(frames, "concentration")
    keys = ["model", "method", "data", "size", "region", "of", "line", "percent"]
    parts = []
    for column, null, of in HELD:
        for line, values in {
            "observed": table[column],
            "null line": table[null],
            "above it": table[column] - table[null],
        }.items():
            parts.append(table.assign(of=of, line=line, value=values))
    parts.append(table.assign(of="sum of r", line="with exact zeros", value=table["share"]))
    long = pd.concat(parts).groupby(keys, sort=False, dropna=False)["value"].agg(["mean", "std"]).reset_index()
    order = {name: number for number, name in enumerate(dict.fromkeys([of for _, _, of in HELD]))}
    long = long.sort_values(["model", "method", "data", "size", "region", "of"], key=lambda c: c.map(order).fillna(-1)
                            if c.name == "of" else c, kind="stable")  # fmt: skip
    across = {(share,): f"{share:g} %" for share in sorted(table["percent"].unique())}
    regions = {"region": "region"} if table["region"].nunique() > 1 else {}
    named = {**naming(table, "data", "size"), **regions, "of": "share of", "line": "changes"}
    columns, rows = pivot(
        long,
        named,
        across,
        ["percent"],
        lambda row: TableCell(
            points(row["mean"]) if row["line"] == "above it" else spread_percent(row["mean"], row["std"])
        ),
    )
    title = (
        "What the parameters with the largest relative change r hold, in percent (mean ± over seeds): of the sum of r,"
        " of the sum of the absolute changes |d| and of that of their squares. The null line is the same with changes"
        " permuted over each tensor's parameters; above it, in points, is what the choice of parameters by training"
        " adds. Parameters that were exactly 0 are left out but where the row says so."
    )
    return PrintedTable(title, columns, rows)


def visible(frames: Frames) -> PrintedTable:
    """Print which share of the changes each number format sees, and undoing which of them a restoration is."""
    table = _with_cells(frames, "concentration")
    formats = {"float32": "changes_undone", "bfloat16": "changes_undone_bfloat16"}
    long = pd.concat(
        [
            table.assign(
                dtype=dtype, value=table[column], seen=1.0 if dtype == "float32" else table["visible_bfloat16"]
            )
            for dtype, column in formats.items()
        ]
    )
    keys = ["model", "method", "data", "size", "region", "dtype", "percent"]
    long = long.groupby(keys, sort=False, dropna=False)[["value", "seen"]].mean().reset_index()
    seen = long.drop_duplicates(keys[:-1]).assign(percent=-1.0, value=lambda rows: rows["seen"])
    across = {(share,): f"undone by {share:g} %" for share in sorted(table["percent"].unique())}
    regions = {"region": "region"} if table["region"].nunique() > 1 else {}
    columns, rows = pivot(
        pd.concat([seen, long]),
        {**naming(table, "data", "size"), **regions, "dtype": "answers in"},
        {(-1.0,): "changes seen", **across},
        ["percent"],
        lambda row: TableCell(percent(row["value"])),
    )
    title = (
        "Changes that survive the number format that answers, in percent of the parameters that changed, and the share"
        " of them that restoring the most changed parameters undoes (mean over seeds)."
    )
    return PrintedTable(title, columns, rows)


def precision(frames: Frames) -> PrintedTable:
    """Print the accuracy of restored models by the number format that they answered in."""
    table = _with_cells(frames, "precision")
    table = table[table["set"].isin(SET_HEADINGS)]
    kinds = ["strategy", "region"]
    keys = ["model", "method", "data", "size", *kinds, "set", "dtype", "percent"]
    long = table.groupby(keys, sort=False, dropna=False).agg(
        value=("accuracy", "mean"), std=("accuracy", "std"), seen=("visible", "mean"), undone=("undone", "mean")
    )
    long = long.reset_index()
    seen = long.drop_duplicates(keys[:-1]).assign(percent=-1.0)
    more = {column: column for column in kinds if table[column].nunique() > 1}
    questions = {"set": "questions"} if table["set"].nunique() > 1 else {}
    columns, rows = pivot(
        pd.concat([seen, long]).replace({"set": SET_HEADINGS}),
        {**naming(table, "data", "size"), **more, **questions, "dtype": "answers in"},
        {(-1.0,): "changes seen", **{(share,): f"{share:g} %" for share in sorted(long["percent"].unique())}},
        ["percent"],
        _precision_cell,
    )
    title = (
        "Accuracy in percent by the number format that answers and by share of parameters restored; in brackets the"
        " share of the changes seen by that format that is undone."
    )
    return PrintedTable(title, columns, rows, "No entry under restoration asks for more_dtypes.")


def _precision_cell(row: dict) -> TableCell:
    """Show the accuracy of a restored model in one number format, or which share of the changes the format sees."""
    if row["percent"] < 0:
        return TableCell(percent(row["seen"]))
    undone = "" if absent(row["undone"]) or not row["percent"] else f" ({percent(row['undone'], 0)})"
    return TableCell(f"{spread_percent(row['value'], row['std'])}{undone}")


def restored(frames: Frames) -> PrintedTable:
    """Print accuracy on held-out questions by share of parameters restored."""
    table = frames["restorations"]
    table = table[table["set"].isin(SET_HEADINGS) & ~_is_block(table)]
    table = pd.concat([_baselines(frames, table), table])
    return _by_share(table, f"Accuracy in percent by share of parameters restored, {BASELINES}. {TONES}")


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
    baselines = _baselines(frames, table).assign(region="nothing")
    table = pd.concat([baselines, nothing, table[table["percent"] == 100]])
    regions = sorted(
        set(table["region"]) - {"nothing"}, key=lambda region: [int(number) for number in re.findall(r"\d+", region)]
    )
    across = {("nothing",): "nothing", **{(region,): f"layers {region}" for region in regions}}
    table = table.assign(set=table["set"].map(SET_HEADINGS))
    columns, rows = pivot(
        table, {**naming(table, "data", "size"), "set": "questions"}, across, ["region"], _restored_cell
    )
    title = f"Accuracy in percent with all parameters of some layers restored, {BASELINES}. {TONES}"
    return PrintedTable(title, columns, rows)


def _is_block(table: pd.DataFrame) -> pd.Series:
    """Tell which restorations are of a block of layers, such as 0-3, and not of a region with a name."""
    return table["region"].str.fullmatch(LAYERS).astype(bool)


def _baselines(frames: Frames, table: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracies of what was not fine-tuned here, on the questions of `table`, as rows of 0 % restored."""
    scores = frames["scores"]
    scores = scores[scores["method"].isin(list(REFERENCE_NAMES))]
    scores = scores.merge(table[["model", "set"]].drop_duplicates(), on=["model", "set"])
    kept = ["model", "method", "data", "size", "seeds", "set", "percent", "accuracy"]
    return scores.assign(data=scores["method"], percent=0.0)[kept]


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
