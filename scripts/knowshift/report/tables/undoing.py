"""Printed tables that compare ways to undo a part of an update."""

import pandas as pd

from knowshift.report.frames import SIGNIFICANT, Frames
from knowshift.report.tables.layout import (
    NOTHING,
    SET_HEADINGS,
    PrintedTable,
    TableCell,
    absent,
    count,
    label,
    naming,
    p_value,
    percent,
    percent_ranged,
    points_ranged,
)

NONE_UNDONE = "Nothing was undone of any model that was asked about facts which it knew before."


def undoing_ways(frames: Frames) -> PrintedTable:
    """Print what each way gives back: over its whole curve, at a matched loss, and at its best share."""
    table = _on_tests(frames["undoing_ways"])
    named = _named(table)
    columns = [
        *named.values(),
        "way",
        "known facts",
        "mean over the curve",
        "over the reference, points",
        "% undone, 90 % kept",
        "known facts answered there",
        "over the reference there, points",
        "p, corrected",
        "% undone, best on dev",
        "accuracy there",
    ]
    rows = []
    for row in table.to_dict("records"):
        gain = row["matched_gain"]
        tone = "" if absent(gain) or gain == 0 else "gain" if gain > 0 else "loss"
        sure = not absent(row["p_corrected"]) and row["p_corrected"] < SIGNIFICANT
        way = f"{row['strategy']} (reference)" if row["strategy"] == row["reference"] else row["strategy"]
        rows.append(
            [
                *(TableCell(label(row[name])) for name in named),
                TableCell(way),
                TableCell(count(row["known"])),
                TableCell(percent_ranged(row, "area")),
                TableCell(points_ranged(row, "over_reference")),
                TableCell(_point(row, "matched")),
                TableCell(percent_ranged(row, "matched_knowledge")),
                TableCell(points_ranged(row, "matched_gain"), tone, sure),
                TableCell(p_value(row["p_corrected"])),
                TableCell(_point(row, "best")),
                TableCell(percent_ranged(row, "best_accuracy")),
            ]
        )
    title = (
        "Ways to undo a part of an update, in percent of the facts known before training that are answered, with 95 %"
        " intervals over facts. After the strategies stand trainings that differ from full fine-tuning by one setting;"
        " their models have the name of the method in place of a share. Mean over the curve: between nothing and all"
        " undone, over the taught facts that are lost. 90 % kept: the share best on dev of those that keep 90 % of the"
        " taught facts (of a model that was fine-tuned elsewhere: of those that keep its tasks). Blue is above the"
        " reference, orange below; bold where a paired permutation test tells them apart after Holm's correction"
        " (p < 0.05)."
    )
    return PrintedTable(title, columns, rows, NONE_UNDONE)


def undoing_rules(frames: Frames) -> PrintedTable:
    """Print what is lost by choosing a share of top by weights alone."""
    table = _on_tests(frames["undoing_rules"])
    named = _named(table)
    columns = [
        *named.values(),
        "rule",
        "% undone",
        "accuracy",
        "% undone, best on dev",
        "accuracy there",
        "regret, points",
    ]
    rows = [
        [
            *(TableCell(label(row[name])) for name in named),
            TableCell(row["rule"]),
            TableCell(_share(row["percent"])),
            TableCell(percent(row["accuracy"])),
            TableCell(_share(row["best_percent"])),
            TableCell(percent(row["best_accuracy"])),
            TableCell(points_ranged(row, "regret")),
        ]
        for row in table.to_dict("records")
    ]
    title = (
        "Choosing the share of top that is undone without any question: knee is the share at which the summed relative"
        " change held is farthest above the share of parameters, holds 90 % the smallest that holds so much of it, and"
        " half the norm the smallest that leaves half of the update's norm. Regret is the accuracy on test at the"
        " share that is best on dev, less that at the rule's share."
    )
    return PrintedTable(title, columns, rows, "No model has dev questions and shares of top undone.")


def _on_tests(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of test sets, with the headings of the sets in place of their names."""
    table = table[table["set"].isin(list(SET_HEADINGS))]
    return table.assign(set=table["set"].map(SET_HEADINGS)) if len(table) else table


def _named(table: pd.DataFrame) -> dict[str, str]:
    """The columns that name a row before its way or rule, with their headings."""
    regions = {"region": "region"} if table["region"].nunique() > 1 else {}
    return {**naming(table, "data", "size"), **regions, "set": "questions"}


def _point(row: dict, kind: str) -> str:
    """Name the model that was chosen on a way: how much is undone, or the method that trained it otherwise."""
    variant = row[f"{kind}_variant"]
    return variant if isinstance(variant, str) else _share(row[f"{kind}_percent"])


def _share(value: float | None) -> str:
    """Format how much is undone, in percent."""
    return NOTHING if value is None or absent(value) else f"{value:g}"
