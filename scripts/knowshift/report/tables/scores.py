"""Printed tables of accuracy, of strategies, and of divergence."""

import pandas as pd

from knowshift.report.figures.lines import REFERENCE_NAMES
from knowshift.report.frames import Frames
from knowshift.report.tables.layout import (
    SET_HEADINGS,
    PrintedTable,
    TableCell,
    count,
    made,
    naming,
    number,
    percent,
    percent_ranged,
    pivot,
    points_ranged,
    ranged,
    share_restored,
    spread_percent,
)

STANDARDISED = {f"{name} standardised": f"{title}, by topic mix, %" for name, title in SET_HEADINGS.items()}
LAST_LEVEL = 4  # of the best-known facts
MEAN = -1  # in place of a mastery level: the mean over levels


def accuracy(frames: Frames) -> PrintedTable:
    """Print headline accuracy per data kind and size, with its interval over facts and its spread over seeds."""
    table = frames["scores"]
    table = table[table["set"].isin([*SET_HEADINGS, "training_set"])].assign(data=table["data"].fillna(table["method"]))
    trained = table[table["set"] == "training_set"]
    standardised = table[table["set"].isin(SET_HEADINGS)].assign(set=lambda rows: rows["set"] + " standardised")
    for column, of in (("accuracy", "standardised"), ("low", "standardised_low"), ("high", "standardised_high")):
        standardised[column] = standardised[of]
    before = trained.assign(set="before", accuracy=trained["accuracy"] - trained["gain"])
    across = {(name,): f"{title}, %" for name, title in SET_HEADINGS.items()}
    across |= {(name,): title for name, title in STANDARDISED.items()}
    across |= {("before",): "own training set before, %", ("training_set",): "after, %"}

    def show(row: dict) -> TableCell:
        if row["set"] in STANDARDISED:
            return TableCell(percent_ranged(row, "accuracy", "low", "high"))
        if row["set"] not in SET_HEADINGS:
            return TableCell(percent(row["accuracy"]))
        spread = "" if row["seeds"] < 2 or pd.isna(row["spread"]) else f" ± {percent(row['spread'])}"
        tone = "" if pd.isna(row["gain"]) else "gain" if row["gain"] > 0 else "loss" if row["gain"] < 0 else ""
        sure = not pd.isna(row["gain"]) and (row["gain_low"] > 0 or row["gain_high"] < 0)
        return TableCell(percent_ranged(row, "accuracy", "low", "high") + spread, tone, sure)

    columns, rows = pivot(
        pd.concat([table, standardised, before]), naming(table, "data", "size", "seeds"), across, ["set"], show
    )
    title = (
        "Accuracy, mean over seeds [95 % interval over facts] ± standard deviation over seeds. Blue is above the"
        " pre-trained model, orange below; bold where the interval of the difference leaves out 0. By topic mix: the"
        " topics of every level are weighted as in the whole set."
    )
    return PrintedTable(title, columns, rows)


def accuracy_levels(frames: Frames) -> PrintedTable:
    """Print accuracy by mastery level of the training data and of the question, at the largest common size."""
    levels = frames["scores_by_level"]
    levels = levels[levels["common"] & levels["set"].isin(SET_HEADINGS)]
    keys = ["model", "method", "data", "size", "set"]
    means = _held_out(frames["scores"]).merge(levels[keys].drop_duplicates(), on=keys).assign(level=MEAN)
    table = pd.concat([levels, means])
    table = table.assign(data=table["data"].fillna(table["method"]), set=table["set"].map(SET_HEADINGS))
    across = {(level,): f"level {level}" for level in range(5)} | {(MEAN,): "mean"}

    def show(row: dict) -> TableCell:
        return TableCell(spread_percent(row["accuracy"], row["spread"]))

    columns, rows = pivot(table, {**naming(table, "data", "size"), "set": "questions"}, across, ["level"], show)
    title = (
        "Accuracy in percent by mastery level of the question, at the largest size that every data kind was run at"
        " (± over seeds)."
    )
    return PrintedTable(title, columns, rows)


def strategies(frames: Frames) -> PrintedTable:
    """Print the accuracy of every strategy: pre-trained, chat model, mixed or divided data, LoRA, restored."""
    table = _held_out(frames["strategies"])
    table = table.assign(recipe=[_recipe(row) for row in table.to_dict("records")])
    across = {
        (name, what): f"{title}{unit}"
        for name, title in SET_HEADINGS.items()
        for what, unit in (("accuracy", ", %"), ("gain", ", gain in points"))
    }
    long = pd.concat([table.assign(what="accuracy"), table.assign(what="gain")])

    def show(row: dict) -> TableCell:
        if row["what"] == "accuracy":
            return TableCell(percent_ranged(row, "accuracy", "low", "high"))
        return TableCell(points_ranged(row, "gain"), sure=row["gain_low"] > 0 or row["gain_high"] < 0)

    names = {**naming(table.drop(columns="method")), "strategy": "model", "recipe": "made by", "chosen": "chosen"}
    columns, rows = pivot(long, names, across, ["set", "what"], show)
    title = (
        "Ways to a model, each chosen on dev where there was a choice: the simplest within one standard error of the"
        " best [95 % interval over facts]; gain over the pre-trained model, bold where its interval leaves out 0."
    )
    return PrintedTable(title, columns, rows)


def level4_and_kl(frames: Frames) -> PrintedTable:
    """Print divergence from the pre-trained model beside accuracy on level-4 questions."""
    table = _held_out(frames["shifts"])
    baselines = _held_out(frames["scores_by_level"])
    baselines = baselines[(baselines["level"] == LAST_LEVEL) & baselines["method"].isin(list(REFERENCE_NAMES))]
    baselines = baselines.merge(table[["model", "set"]].drop_duplicates(), on=["model", "set"])
    baselines = baselines.assign(data=baselines["method"])[
        ["model", "method", "data", "size", "seeds", "set", "accuracy", "low", "high"]
    ].rename(columns={"low": "accuracy_low", "high": "accuracy_high"})
    parts = [baselines.assign(what="accuracy"), table.assign(what="kl"), table.assign(what="accuracy")]
    long = pd.concat(parts)
    across = {
        (name, what): f"{title} {unit}"
        for name, title in SET_HEADINGS.items()
        for what, unit in (("kl", "KL, nats"), ("accuracy", "accuracy on level 4, %"))
    }

    def show(row: dict) -> TableCell:
        if row["what"] == "accuracy":
            return TableCell(percent_ranged(row, "accuracy"))
        return TableCell(ranged(number(row["kl"]), number(row["low"]), number(row["high"])))

    columns, rows = pivot(long, naming(table, "data", "size", "seeds"), across, ["set", "what"], show)
    title = (
        "Divergence from the pre-trained model on well-known facts, and accuracy on questions of level 4, also of what"
        " answers without fine-tuning here [95 % intervals over facts]."
    )
    return PrintedTable(title, columns, rows)


def correlation(frames: Frames) -> PrintedTable:
    """Print the rank correlation of divergence and accuracy on level 4."""
    table = _held_out(frames["correlations"])
    table = table.assign(data=table["data"].fillna("all kinds and sizes"))
    across = {
        (name, what): f"{title} {heading}"
        for name, title in SET_HEADINGS.items()
        for what, heading in (("points", "cells"), ("rank", "ρ"))
    }
    long = pd.concat([table.assign(what="points"), table.assign(what="rank")])

    def show(row: dict) -> TableCell:
        if row["what"] == "points":
            return TableCell(count(row["points"]))
        return TableCell(ranged(number(row["spearman"]), number(row["low"]), number(row["high"])))

    columns, rows = pivot(long, naming(table, "data"), across, ["set", "what"], show)
    title = (
        "Rank correlation (Spearman) of KL and accuracy on level 4 over cells [95 % interval over cells]; – with fewer"
        " than five."
    )
    return PrintedTable(title, columns, rows)


def _held_out(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows about held-out questions."""
    return table[table["set"].isin(SET_HEADINGS)]


def _recipe(row: dict) -> str:
    """Say in a few words how a strategy's model was made."""
    if pd.isna(row["size"]):
        return "as it is"
    trained = made(row["method"], row["data"], row["size"])
    return trained if pd.isna(row["percent"]) else f"{trained}, {share_restored(row, 'selection')}"
