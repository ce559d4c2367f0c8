"""Printed tables of accuracy, divergence and calibration."""

from collections.abc import Mapping

import pandas as pd

from knowshift.report.tables.layout import (
    SETS,
    Cell,
    Printed,
    count,
    label,
    naming,
    number,
    percent,
    percent_ranged,
    pivot,
    points,
    ranged,
    reason,
    spread_percent,
)

Tables = Mapping[str, pd.DataFrame]


def _tests(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["set"].isin(SETS)]


def accuracy(tables: Tables) -> Printed:
    """Accuracy per data kind and size, with its interval and its spread over seeds."""
    table = tables["scores"]
    table = table[table["set"].isin([*SETS, "training_set"])].assign(data=table["data"].fillna(table["method"]))
    trained = table[table["set"] == "training_set"].assign(
        set="before", accuracy=lambda rows: rows["accuracy"] - rows["gain"]
    )
    across = {(name,): f"{title}, %" for name, title in SETS.items()}
    across |= {("before",): "own training set before, %", ("training_set",): "after, %"}

    def show(row: dict) -> Cell:
        if row["set"] not in SETS:
            return Cell(percent(row["accuracy"]))
        spread = "" if row["seeds"] < 2 or pd.isna(row["spread"]) else f" ± {percent(row['spread'])}"
        tone = "" if pd.isna(row["gain"]) else "gain" if row["gain"] > 0 else "loss" if row["gain"] < 0 else ""
        sure = not pd.isna(row["gain"]) and (row["gain_low"] > 0 or row["gain_high"] < 0)
        return Cell(percent_ranged(row, "accuracy", "low", "high") + spread, tone, sure)

    columns, rows = pivot(pd.concat([table, trained]), naming(table, "data", "size", "seeds"), across, ["set"], show)
    title = (
        "Accuracy, mean over seeds [95 % interval over facts] ± standard deviation over seeds. Blue is above the pre-trained"
        " model, orange below; bold where the interval of the difference leaves out 0."
    )
    return Printed("accuracy", "scores", title, columns, rows, reason(rows))


def accuracy_levels(tables: Tables) -> Printed:
    """Accuracy by mastery level of the training data and of the question, at the largest common size."""
    levels = tables["scores_by_level"]
    levels = levels[levels["common"] & levels["set"].isin(SETS)]
    totals = _tests(tables["scores"])
    keys = ["model", "method", "data", "size", "set"]
    means = totals.merge(levels[keys].drop_duplicates(), on=keys).assign(level=-1)
    table = pd.concat([levels, means])
    table = table.assign(data=table["data"].fillna(table["method"]), set=table["set"].map(SETS))
    order = [*range(5), -1]
    across = {(level,): "mean" if level < 0 else f"level {level}" for level in order}

    def show(row: dict) -> Cell:
        return Cell(spread_percent(row["accuracy"], row["spread"]))

    columns, rows = pivot(table, {**naming(table, "data", "size"), "set": "questions"}, across, ["level"], show)
    title = "Accuracy in percent by mastery level of the question, at the largest size that every data kind was run at (± over seeds)."
    return Printed("accuracy_levels", "scores_by_level", title, columns, rows, reason(rows))


def strategies(tables: Tables) -> Printed:
    """Ways to a model beside one another."""
    table = _tests(tables["strategies"])
    table = table.assign(recipe=[_recipe(row) for row in table.to_dict("records")])
    across = {
        (name, what): f"{title}{unit}"
        for name, title in SETS.items()
        for what, unit in (("accuracy", ", %"), ("gain", ", gain in points"))
    }
    long = pd.concat([table.assign(what="accuracy"), table.assign(what="gain")])

    def show(row: dict) -> Cell:
        if row["what"] == "accuracy":
            return Cell(percent_ranged(row, "accuracy", "low", "high"))
        text = ranged(*(points(row[name]) for name in ("gain", "gain_low", "gain_high")))
        return Cell(text, sure=row["gain_low"] > 0 or row["gain_high"] < 0)

    names = {**naming(table.drop(columns="method")), "strategy": "model", "recipe": "made by", "chosen": "chosen"}
    columns, rows = pivot(long, names, across, ["set", "what"], show)
    title = "Ways to a model, each chosen on dev where there was a choice [95 % interval over facts]; gain over the pre-trained model, bold where its interval leaves out 0."
    return Printed("strategies", "strategies", title, columns, rows, reason(rows))


def _recipe(row: dict) -> str:
    if pd.isna(row["size"]):
        return "as it is"
    made = f"{row['method']}, {label(row['data'])}, {count(row['size'])} facts"
    return made if pd.isna(row["percent"]) else f"{made}, {row['percent']:g} % restored"


def level4_and_kl(tables: Tables) -> Printed:
    """Divergence from the pre-trained model beside accuracy on what it knew best."""
    table = _tests(tables["shifts"])
    long = pd.concat([table.assign(what="kl"), table.assign(what="accuracy")])
    across = {
        (name, what): f"{title} {unit}"
        for name, title in SETS.items()
        for what, unit in (("kl", "KL, nats"), ("accuracy", "accuracy on level 4, %"))
    }

    def show(row: dict) -> Cell:
        if row["what"] == "accuracy":
            return Cell(percent_ranged(row, "accuracy"))
        return Cell(ranged(*(number(row[name]) for name in ("kl", "low", "high"))))

    columns, rows = pivot(long, naming(table, "data", "size", "seeds"), across, ["set", "what"], show)
    title = "Divergence from the pre-trained model on well-known facts, and accuracy on questions of level 4 [95 % intervals over facts]."
    return Printed("level4_and_kl", "shifts", title, columns, rows, reason(rows))


def correlation(tables: Tables) -> Printed:
    """Whether divergence and the accuracy on level 4 go together."""
    table = _tests(tables["correlations"])
    table = table.assign(data=table["data"].fillna("all kinds and sizes"))
    across = {
        (name, what): f"{title} {heading}"
        for name, title in SETS.items()
        for what, heading in (("points", "cells"), ("rank", "ρ"))
    }
    long = pd.concat([table.assign(what="points"), table.assign(what="rank")])

    def show(row: dict) -> Cell:
        if row["what"] == "points":
            return Cell(count(row["points"]))
        return Cell(ranged(*(number(row[name]) for name in ("spearman", "low", "high"))))

    columns, rows = pivot(long, naming(table, "data"), across, ["set", "what"], show)
    title = "Rank correlation (Spearman) of KL and accuracy on level 4 over cells [95 % interval over cells]; – with fewer than five."
    return Printed("correlation", "correlations", title, columns, rows, reason(rows))


def calibration(tables: Tables) -> Printed:
    """Probability of the right answer against the share answered."""
    table = _tests(tables["calibration_errors"])
    table = table.assign(
        data=table["data"].fillna("pre-trained"), restored=[_restored(row) for row in table.to_dict("records")]
    )
    parts = {"probability": "mean probability, %", "accuracy": "answered, %", "error": "calibration error, points"}
    across = {(name, what): f"{title} {heading}" for name, title in SETS.items() for what, heading in parts.items()}
    long = pd.concat([table.assign(what=what) for what in parts])

    def show(row: dict) -> Cell:
        return Cell(spread_percent(row[row["what"]], row["spread"] if row["what"] == "error" else None))

    columns, rows = pivot(
        long, {**naming(table, "data", "size"), "restored": "restored"}, across, ["set", "what"], show
    )
    title = "Probability of the right answer (geometric mean over its tokens) against the share of questions answered; the error is the expected calibration error over ten bins (± over seeds)."
    return Printed("calibration", "calibration_errors", title, columns, rows, reason(rows))


def _restored(row: dict) -> str:
    return "–" if pd.isna(row["percent"]) else f"{row['percent']:g} %"
