"""Printed tables of what was known before, of the verdicts, of the recommendation and of costs."""

from collections.abc import Mapping

import pandas as pd

from knowshift.report.tables.layout import (
    NOT_RUN,
    NOTHING,
    SETS,
    Cell,
    Printed,
    absent,
    count,
    naming,
    number,
    percent_ranged,
    pivot,
    points,
    points_ranged,
    ranged,
    reason,
)

Tables = Mapping[str, pd.DataFrame]


def _levels(table: pd.DataFrame, by: list[str]) -> tuple[list[str], list[list[Cell]]]:
    keys = ["model", *by]
    counts = table.groupby([*keys, "level"], sort=False)["facts"].sum().reset_index()
    totals = counts.groupby(keys, sort=False)["facts"].sum().reset_index().assign(level=-1)
    across = {(level,): f"level {level}" for level in range(5)} | {(-1,): "all"}
    named = {**naming(table), **{name: name for name in by}}
    return pivot(pd.concat([counts, totals]), named, across, ["level"], lambda row: Cell(count(row["facts"])))


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(domain=table["domain"].str.replace("_", "-"))


def mastery_levels(tables: Tables) -> Printed:
    """Facts per mastery level, by domain and split."""
    columns, rows = _levels(_named(tables["mastery"]), ["domain", "split"])
    title = "Facts that were probed, by mastery level of the pre-trained model."
    return Printed("mastery_levels", "mastery", title, columns, rows, reason(rows))


def mastery_topics(tables: Tables) -> Printed:
    """Facts per mastery level, by topic."""
    columns, rows = _levels(_named(tables["mastery"]), ["domain", "topic", "split"])
    title = "Facts that were probed, by topic and mastery level."
    return Printed("mastery_topics", "mastery", title, columns, rows, reason(rows))


def claims(tables: Tables) -> Printed:
    """The paper's claims and what this run says of them."""
    table = tables["claims"]
    named = naming(table)
    columns = [
        *named.values(),
        "claim",
        "statement",
        "verdict",
        "number [95 % interval]",
        "holds above",
        "of",
        "compared",
        "note",
    ]
    rows = []
    for row in table.to_dict("records"):
        show = _UNITS[row["unit"]]
        bound = "" if absent(row["part"]) else show(row["bound"])
        texts = [
            *(row[name] for name in named),
            f"{row['claim']}{'' if absent(row['part']) else row['part']}",
            row["statement"],
            row["verdict"],
            f"{ranged(*(show(row[name]) for name in ('value', 'low', 'high')))}",
            f"{bound}",
            f"{row['measure']} ({row['unit']})",
            row["compared"],
            "" if absent(row["note"]) else row["note"],
        ]
        tone = {"holds": "gain", "does not hold": "loss"}.get(row["verdict"], "")
        rows.append([Cell(text, tone if text == row["verdict"] else "", absent(row["part"])) for text in texts])
    title = (
        "The paper's claims on this run. A part holds if its whole interval lies above the bound, does not hold if it lies below,"
        " and cannot be told otherwise; a claim holds if all its parts do, and does not if one does not."
    )
    return Printed("claims", "claims", title, columns, rows, reason(rows))


def _correlation(value: float | None) -> str:
    return NOTHING if absent(value) else f"{value:+.2f}".replace("-", "−")


_UNITS = {"points": points, "nats": number, "correlation": _correlation}


def recommendation(tables: Tables) -> Printed:
    """The recipe chosen on dev, and what it is worth on test."""
    table = tables["recommendation"]
    named = naming(table)
    columns = [
        *named.values(),
        "recipe",
        "questions",
        "accuracy, %",
        "gain over unrestored, points",
        "gain over pre-trained, points",
    ]
    rows = []
    for row in table[table["reason"].isna()].to_dict("records"):
        recipe = f"{row['run']}, {row['percent']:g} % restored" if row["percent"] else f"{row['run']}, nothing restored"
        gains = [points_ranged(row, name) for name in ("gain_unrestored", "gain_pretrained")]
        texts = [*(row[name] for name in named), recipe, f"{SETS[row['set']]} ({count(row['questions'])})"]
        rows.append([Cell(text) for text in [*texts, percent_ranged(row, "accuracy"), *gains]])
    why = "; ".join(table["reason"].dropna().unique()) or NOT_RUN
    title = "What to do: chosen on dev, reported on test [95 % interval over facts]."
    return Printed(
        "recommendation", "recommendation", title, columns, rows, None if rows else f"No recommendation: {why}."
    )


def costs(tables: Tables) -> Printed:
    """Time and memory per stage."""
    table = tables["costs"]
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
        minutes = [
            number(row[name] / 60, 1) if not absent(row[name]) else NOTHING
            for name in ("seconds", "longest", "cpu_seconds")
        ]
        memory = NOTHING if absent(row["memory"]) else number(row["memory"] / 1000, 1)
        texts = [
            *(NOTHING if absent(row[name]) else row[name] for name in named),
            count(row["jobs"]),
            *minutes,
            memory,
            count(row["tokens_per_second"]),
        ]
        rows.append([Cell(text) for text in texts])
    title = (
        "What each stage took: jobs one after another, the longest of them, CPU time, and the largest memory of a job."
    )
    return Printed("costs", "costs", title, columns, rows, None if rows else "No benchmark files are left.")
