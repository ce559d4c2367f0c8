"""Printed tables of models that were fine-tuned elsewhere: what they kept, lost and learned, restored and not."""

import pandas as pd

from knowshift.report.frames import Frames
from knowshift.report.tables.layout import (
    SET_HEADINGS,
    PrintedTable,
    TableCell,
    absent,
    count,
    naming,
    number,
    p_value,
    percent_ranged,
    points_ranged,
    share_restored,
)

NONE = "No model that was fine-tuned elsewhere stands in this experiment."
_SHARES = {"before": "base, %", "after": "then, %", "kept_share": "kept of known, %", "learned_share": "learned, %"}


def fates(frames: Frames) -> PrintedTable:
    """Print what became of the facts in each model that was fine-tuned elsewhere, and in its restored models."""
    table = frames["fates"]
    table = table[table["topic"].isna()]
    columns, rows = _laid_out(table, {"restored": "restored"})
    title = (
        "What became of the facts that the pre-trained model answers after examples: kept (answered before and after),"
        " lost, learned [95 % intervals over facts]. Change: right answers after less before, paired, with the p value"
        " of McNemar's test. Right answer: its mean log-probability per token in nats, before and after, which does not"
        " depend on how an answer is worded. The share that is best on dev is marked by a star."
    )
    return PrintedTable(title, columns, rows, NONE)


def fates_topics(frames: Frames) -> PrintedTable:
    """Print the same by topic, of models with nothing restored."""
    table = frames["fates"]
    columns, rows = _laid_out(table[table["topic"].notna()], {"topic": "topic"})
    return PrintedTable("The same by topic, with nothing restored.", columns, rows, NONE)


def _laid_out(table: pd.DataFrame, more: dict[str, str]) -> tuple[list[str], list[list[TableCell]]]:
    """Lay out rows of the table `fates`.

    Args:
        more: further columns that name a row, with their headings.
    """
    named = {**naming(table), "data": "fine-tuned model", "set": "questions", **more}
    counts = ["facts", "kept", "lost", "learned"]
    columns = [*named.values(), *counts, *_SHARES.values(), "change, points", "p", "right answer, nats"]
    rows = []
    for row in table.to_dict("records"):
        star = " *" if row["chosen"] else ""
        row["restored"] = "–" if absent(row["percent"]) else f"{share_restored(row).removesuffix(' restored')}{star}"
        row["set"] = SET_HEADINGS[row["set"]]
        sure = not absent(row["change"]) and (row["change_low"] > 0 or row["change_high"] < 0)
        tone = "gain" if row["change"] > 0 else "loss" if row["change"] < 0 else ""
        logprobs = f"{number(row['logprob_before'])} → {number(row['logprob_after'])}"
        rows.append(
            [
                *(TableCell(str(row[name])) for name in named),
                *(TableCell(count(row[name])) for name in counts),
                *(TableCell(percent_ranged(row, name)) for name in _SHARES),
                TableCell(points_ranged(row, "change"), tone if sure else "", sure),
                TableCell(p_value(row["p"])),
                TableCell(logprobs),
            ]
        )
    return columns, rows
