"""Printed tables of mastery, of the verdicts, of the recommendation, and of costs."""

import pandas as pd

from knowshift.report.frames import Frames
from knowshift.report.tables.layout import (
    NOT_RUN,
    NOTHING,
    SET_HEADINGS,
    PrintedTable,
    TableCell,
    absent,
    count,
    distance,
    made,
    naming,
    number,
    p_value,
    percent,
    percent_ranged,
    pivot,
    points,
    points_ranged,
    ranged,
    share_restored,
)

ALL = -1  # in place of a mastery level: all levels


def mastery_levels(frames: Frames) -> PrintedTable:
    """Print the number of facts per mastery level, by domain and split."""
    columns, rows = _levels(frames["mastery"], ["domain", "split"])
    return PrintedTable("Facts that were probed, by mastery level of the pre-trained model.", columns, rows)


def mastery_topics(frames: Frames) -> PrintedTable:
    """Print the number of facts per mastery level, by domain, topic and split."""
    columns, rows = _levels(frames["mastery"], ["domain", "topic", "split"])
    return PrintedTable("Facts that were probed, by topic and mastery level.", columns, rows)


def claims(frames: Frames) -> PrintedTable:
    """Print the paper's claims and their parts, with the verdict that this run gives on each."""
    table = frames["claims"]
    named = naming(table)
    columns = [
        *named.values(),
        "claim",
        "statement",
        "verdict",
        "number [interval]",
        "holds above",
        "seeds",
        "p, corrected",
        "would have seen",
        "of",
        "compared",
        "note",
    ]
    rows = []
    for row in table.to_dict("records"):
        show = _UNITS[row["unit"]]
        whole = absent(row["part"])
        texts = [
            *(row[name] for name in named),
            f"{row['claim']}{'' if whole else row['part']}",
            row["statement"],
            row["verdict"],
            ranged(show(row["value"]), show(row["low"]), show(row["high"])),
            "" if whole else show(row["bound"]),
            count(row["seeds"]),
            p_value(row["p_corrected"]),
            NOTHING if absent(row["detectable"]) else distance(row["detectable"], row["unit"]),
            f"{row['measure']} ({row['unit']})",
            row["compared"],
            "; ".join(row[name].rstrip(".") for name in ("note", "needed") if not absent(row[name])),
        ]
        tone = {"holds": "gain", "does not hold": "loss"}.get(row["verdict"], "")
        rows.append([TableCell(text, tone if text == row["verdict"] else "", whole) for text in texts])
    title = (
        "The paper's claims on this run. A part holds if its whole interval lies above the bound, does not hold if it"
        " lies below, and cannot be told otherwise; a claim holds if all its parts do, and does not if one does not."
        " Intervals are over draws of the training set and over facts, and corrected for the number of parts. The"
        " smallest distance from the bound that would have been seen with 80 % probability stands beside them."
    )
    return PrintedTable(title, columns, rows)


def recommendation(frames: Frames) -> PrintedTable:
    """Print the recipe that was chosen on dev, and its accuracy on test beside the best unrestored recipe's on dev."""
    table = frames["recommendation"]
    named = naming(table)
    columns = [
        *named.values(),
        "recipe",
        "questions",
        "accuracy, %",
        "best unrestored recipe on dev",
        "gain over it, points",
        "gain over the same unrestored, points",
        "gain over pre-trained, points",
    ]
    rows = []
    for row in table[table["reason"].isna()].to_dict("records"):
        recipe = f"{made(row['method'], row['data'], row['size'])}, {share_restored(row)}"
        plain = made(row["unrestored_method"], row["unrestored_data"], row["unrestored_size"])
        gains = [points_ranged(row, name) for name in ("gain", "gain_unrestored", "gain_pretrained")]
        texts = [*(row[name] for name in named), recipe, f"{SET_HEADINGS[row['set']]} ({count(row['questions'])})"]
        texts += [percent_ranged(row, "accuracy"), f"{plain}: {percent(row['unrestored_accuracy'])} %", *gains]
        rows.append([TableCell(text) for text in texts])
    why = "; ".join(table["reason"].dropna().unique()) or NOT_RUN
    rule = "the simplest recipe within one standard error of the best one on dev"
    if table["left_out"].notna().any():
        rule = "of the recipes that keep the tasks on their dev halves, the best one on dev"
    title = f"What to do: {rule}, reported on test [95 % interval over facts and seeds].{_basis(table)}"
    return PrintedTable(title, columns, rows, f"No recommendation: {why}.")


def _basis(table: pd.DataFrame) -> str:
    """Say, per model, on how many dev questions and seeds its recipe was chosen, and what makes that uncertain."""
    named, said = naming(table), ""
    for row in table[table["reason"].isna()].drop_duplicates("model").to_dict("records"):
        note = "" if absent(row["note"]) else f" ({row['note']})"
        of = "".join(f" of {row[name]}" for name in named)
        basis = f"{count(row['dev_questions'])} dev questions, {count(row['candidates'])} recipes, "
        said += f" The choice{of}: {basis}{count(row['seeds'])} seed{'s' if row['seeds'] > 1 else ''} each{note}."
    return said


def costs(frames: Frames) -> PrintedTable:
    """Print time, memory and speed of every stage."""
    table = frames["costs"]
    named = {**naming(table), "stage": "stage"}
    columns = [
        *named.values(),
        "jobs",
        "all jobs, minutes",
        "longest, minutes",
        "CPU, minutes",
        "memory, GB",
        "tokens per second",
    ]
    rows = []
    for row in table.to_dict("records"):
        texts = [
            *(NOTHING if absent(row[name]) else row[name] for name in named),
            count(row["jobs"]),
            *(number(row[name] / 60, 1) for name in ("seconds", "longest", "cpu_seconds")),
            number(row["memory"] / 1000, 1),  # from megabytes
            count(row["tokens_per_second"]),
        ]
        rows.append([TableCell(text) for text in texts])
    title = (
        "What each stage took: jobs one after another, the longest of them, CPU time, and the largest memory of a job."
    )
    return PrintedTable(title, columns, rows, "No benchmark files are left.")


def _levels(table: pd.DataFrame, by: list[str]) -> tuple[list[str], list[list[TableCell]]]:
    """Count facts with a column per mastery level and a row per model and values of the columns `by`."""
    table = table.assign(domain=table["domain"].str.replace("_", "-"))
    keys = ["model", *by]
    counts = table.groupby([*keys, "level"], sort=False)["facts"].sum().reset_index()
    totals = counts.groupby(keys, sort=False)["facts"].sum().reset_index().assign(level=ALL)
    across = {(level,): f"level {level}" for level in range(5)} | {(ALL,): "all"}
    named = {**naming(table), **{name: name for name in by}}
    return pivot(pd.concat([counts, totals]), named, across, ["level"], lambda row: TableCell(count(row["facts"])))


def _correlation(value: float | None) -> str:
    return NOTHING if value is None or absent(value) else f"{value:+.2f}".replace("-", "−")


_UNITS = {"points": points, "nats": number, "correlation": _correlation}  # how numbers of a claim's unit are formatted
