"""Printed tables of what is known, net of noise: reliability of levels, topics drawn, churn, and wrong answers."""

from knowshift.report.frames import Frames
from knowshift.report.tables.layout import (
    SET_HEADINGS,
    PrintedTable,
    TableCell,
    absent,
    count,
    label,
    naming,
    number,
    percent,
    percent_ranged,
    pivot,
    points_ranged,
    ranged,
    spread_percent,
)

KINDS = ("right", "near", "other object", "other", "nothing")


def training_topics(frames: Frames) -> PrintedTable:
    """Print how many facts of each topic the training sets have, mean over seeds."""
    table = frames["training_topics"]
    keys = ["model", "method", "data", "size", "topic"]
    seeds = table.groupby(["model", "method", "data", "size"])["run"].nunique()
    means = table.groupby(keys, sort=False)["facts"].sum().reset_index()
    means["facts"] = [
        row["facts"] / seeds[row["model"], row["method"], row["data"], row["size"]] for row in means.to_dict("records")
    ]
    across = {(topic,): topic for topic in sorted(set(table["topic"]))}
    means = means.rename(columns={"facts": "drawn"})

    def show(row: dict) -> TableCell:
        return TableCell(number(row["drawn"], 1))

    columns, rows = pivot(means, naming(means, "data", "size"), across, ["topic"], show)
    return PrintedTable("Training facts per topic, mean over seeds.", columns, rows)


def level_reliability(frames: Frames) -> PrintedTable:
    """Print how well two halves of the completions agree on mastery and level."""
    table = frames["level_reliability"]
    named = naming(table)
    headings = ["domain", "split", "facts", "same level, %", "correlation of R", "of all completions", "of templates"]
    rows = []
    for row in table.to_dict("records"):
        between = ranged(*(number(row[f"template_{name}"]) for name in ("correlation", "lowest", "highest")))
        texts = [
            *(row[name] for name in named),
            *("all" if absent(row[name]) else row[name].replace("_", "-") for name in ("domain", "split")),
            count(row["facts"]),
            percent(row["agreement"]),
            number(row["correlation"]),
            number(row["spearman_brown"]),
            between,
        ]
        rows.append([TableCell(text) for text in texts])
    title = (
        "Reliability of mastery: facts that two halves of the completions put at the same level; correlation of R"
        " between halves, and what follows for all completions (Spearman-Brown); between templates, mean"
        " [lowest, highest]."
    )
    return PrintedTable(title, [*named.values(), *headings], rows)


def level_regression(frames: Frames) -> PrintedTable:
    """Print the mastery to expect of facts at an observed level."""
    table = frames["level_regression"]
    table = table[table["domain"].isna()]
    named = naming(table)
    rows = []
    for row in table.to_dict("records"):
        texts = [
            *(row[name] for name in named),
            label(row["level"]),
            count(row["facts"]),
            percent(row["observed"]),
            percent_ranged(row, "expected", "low", "high"),
            percent(row["same_level"]),
        ]
        rows.append([TableCell(text) for text in texts])
    headings = ["observed level", "facts", "R where observed, %", "R in the other half, %", "same level there, %"]
    title = (
        "What an observed level means: mean R of its facts in the half of the completions that the level is from, and"
        " in the other half [95 % interval over facts]."
    )
    return PrintedTable(title, [*named.values(), *headings], rows)


def churn(frames: Frames) -> PrintedTable:
    """Print what became of known and unknown facts, how far seeds disagree, and what exceeds churn."""
    table = frames["churn"]
    table = table[table["set"].isin(SET_HEADINGS)]
    named = naming(table, "data", "size")
    headings = [
        "questions",
        "before",
        "facts",
        "answered before, zero / few shots, %",
        "then",
        "share, %",
        "two seeds disagree, %",
        "in every seed, %",
        "by churn alone, %",
        "excess, points",
    ]
    rows = []
    for row in table.to_dict("records"):
        texts = [
            *(label(row[name]) for name in named),
            SET_HEADINGS[row["set"]],
            row["knowledge"],
            count(row["facts"]),
            f"{percent(row['answered_before'])} / {percent(row['answered_few_shot'])}",
            row["event"],
            spread_percent(row["share"], row["spread"]),
            percent_ranged(row, "disagreement"),
            percent(row["in_every_seed"]),
            percent(row["expected_in_every_seed"]),
        ]
        sure = not absent(row["excess"]) and (row["excess_low"] > 0 or row["excess_high"] < 0)
        rows.append([*(TableCell(text) for text in texts), TableCell(points_ranged(row, "excess"), sure=sure)])
    title = (
        "Kept, lost, learned, net of churn between seeds [95 % intervals over facts]. Known: R above 50 %; unknown: R"
        " of 0. By churn alone: if what happens hit the facts of a level at random, anew in every seed."
    )
    return PrintedTable(title, [*named.values(), *headings], rows)


def wrong_answers(frames: Frames) -> PrintedTable:
    """Print what the answers are, by mastery level of the question, at the largest size of each data kind."""
    table = frames["wrong_answers"]
    table = table[table["set"].isin(SET_HEADINGS)]
    size = table.groupby(["model", "method", "data"], dropna=False)["size"].transform("max")
    table = table[table["size"].isna() | (table["size"] == size)]
    table = table.assign(data=table["data"].fillna(table["method"]), set=table["set"].map(SET_HEADINGS))
    across = {(kind,): f"{kind}, %" for kind in KINDS}

    def show(row: dict) -> TableCell:
        return TableCell(percent(row["share"]))

    by = {**naming(table, "data", "size"), "set": "questions", "level": "level"}
    columns, rows = pivot(table, by, across, ["kind"], show)
    title = (
        "Answers by what they are: right, nearly right (few letters differ), another object of the topic, something"
        " else, or nothing; by mastery level of the question, at the largest size of each data kind."
    )
    return PrintedTable(title, columns, rows)
