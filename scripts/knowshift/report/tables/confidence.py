"""Printed tables of probabilities against answers: of the right answer, and of the one that is given."""

import pandas as pd

from knowshift.report.frames import Frames
from knowshift.report.tables.layout import (
    NOTHING,
    SET_HEADINGS,
    PrintedTable,
    TableCell,
    naming,
    number,
    pivot,
    spread_percent,
)


def right_answer(frames: Frames) -> PrintedTable:
    """Print the probability of the right answer against the share of questions answered."""
    table, named = _states(frames["right_answer_gaps"])
    parts = {"probability": "of the right answer, %", "accuracy": "answered, %", "gap": "gap, points"}

    def show(row: dict) -> TableCell:
        return TableCell(spread_percent(row[row["what"]], row["spread"] if row["what"] == "gap" else None))

    columns, rows = pivot(_long(table, parts), named, _across(parts), ["set", "what"], show)
    title = (
        "Probability of the right answer (geometric mean over its tokens), the share of questions answered, and the"
        " mean distance of the two over ten bins (± over seeds)."
    )
    return PrintedTable(title, columns, rows)


def confidence(frames: Frames) -> PrintedTable:
    """Print the probability of the given answer against the share of right ones, and how well it tells them apart."""
    table, named = _states(frames["confidence_errors"])
    parts = {
        "confidence": "confidence, %",
        "accuracy": "right, %",
        "error": "calibration error, points",
        "auroc": "AUROC",
        "auroc_per_token": "AUROC per token",
    }

    def show(row: dict) -> TableCell:
        what = row["what"]
        if what.startswith("auroc"):
            spread = "" if pd.isna(row[f"{what}_spread"]) else f" ± {number(row[f'{what}_spread'])}"
            return TableCell(NOTHING if pd.isna(row[what]) else f"{number(row[what])}{spread}")
        return TableCell(spread_percent(row[what], row["error_spread"] if what == "error" else None))

    columns, rows = pivot(_long(table, parts), named, _across(parts), ["set", "what"], show)
    title = (
        "Confidence, the probability of the given answer (product over its tokens and its end), against the share of"
        " right answers; the expected calibration error over ten bins; and AUROC, the chance that a right answer has"
        " more confidence than a wrong one, also for the geometric mean over tokens (± over seeds)."
    )
    return PrintedTable(title, columns, rows)


def _states(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows about held-out questions with what was restored in words, and the columns that name a row."""
    table = table[table["set"].isin(SET_HEADINGS)]
    shares = [NOTHING if pd.isna(percent) else f"{percent:g} %" for percent in table["percent"]]
    table = table.assign(data=table["data"].fillna("pre-trained"), restored=shares)
    return table, {**naming(table, "data", "size"), "restored": "restored"}


def _long(table: pd.DataFrame, parts: dict[str, str]) -> pd.DataFrame:
    return pd.concat([table.assign(what=what) for what in parts])


def _across(parts: dict[str, str]) -> dict[tuple, str]:
    return {
        (name, what): f"{title} {heading}" for name, title in SET_HEADINGS.items() for what, heading in parts.items()
    }
