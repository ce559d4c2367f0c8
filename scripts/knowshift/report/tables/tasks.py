"""The printed table of the trade between knowledge and the tasks that a model has to go on doing."""

from collections.abc import Hashable, Mapping
from typing import Any

from knowshift.report.frames import Frames
from knowshift.report.tables.layout import (
    NOTHING,
    PrintedTable,
    TableCell,
    absent,
    count,
    label,
    naming,
    number,
    percent,
    percent_ranged,
    points,
    points_ranged,
    ranged,
    share_restored,
)

NONE = "The configuration names no tasks."


def task_trade(frames: Frames) -> PrintedTable:
    """Print knowledge and task scores of every model, on dev where it is chosen and on test where it is reported."""
    table = frames["task_trade"]
    named = {"task": "task", **naming(table), "data": "cell", "size": "facts", "restored": "restored"}
    columns = [
        *named.values(),
        "task, dev half",
        "change",
        "kept",
        "task, test half",
        "change",
        "knowledge, dev, %",
        "knowledge, test, %",
        "change, points",
        "frontier",
    ]
    rows = []
    for row in table.to_dict("records"):
        base = absent(row["frontier"])
        row["data"] = row["method"] if absent(row["data"]) else label(row["data"])
        row["size"] = label(row["size"])
        star = " *" if row["chosen"] else ""
        done = "nothing" if absent(row["percent"]) else share_restored(row).removesuffix(" restored")
        row["restored"] = NOTHING if base else f"{done}{star}"
        score, change = _FORMATS[row["metric"] == "loglikelihood"]
        kept = NOTHING if base else "yes" if row["keeps"] else "no"
        rows.append(
            [
                *(TableCell(str(row[name])) for name in named),
                TableCell(f"{score(row['score_dev'])} ({count(row['examples_dev'])})"),
                TableCell(change(row["change_dev"])),
                TableCell(kept, "loss" if kept == "no" else ""),
                TableCell(f"{_ranged(row, 'score', score)} ({count(row['examples'])})"),
                TableCell(_ranged(row, "change", change)),
                TableCell(percent(row["knowledge_dev"])),
                TableCell(percent_ranged(row, "knowledge")),
                TableCell(points_ranged(row, "knowledge_change")),
                TableCell(NOTHING if base else "yes" if row["frontier"] else ""),
            ]
        )
    title = (
        "Each task and what is known, of every model: score on the task's dev half, where a restored model must keep it"
        " within the tolerance, and on its test half (number of examples; % of examples, or nats with loglikelihood);"
        " accuracy on dev and test facts, mean over mastery levels [95 % intervals over examples or facts]. Changes are"
        " those from nothing restored. A star marks what is recommended among the models of a cell; the frontier holds"
        " the models that no other surpasses in one without falling behind in the other."
    )
    return PrintedTable(title, columns, rows, NONE)


def _nats(value: float | None) -> str:
    """A change in nats, with its sign."""
    return NOTHING if value is None or absent(value) else f"{value:+.3f}".replace("-", "−")


# How scores and their changes are printed: shares of examples, and nats.
_FORMATS = ((percent, points), (lambda value: number(value, 3), _nats))


def _ranged(row: Mapping[Hashable, Any], name: str, show: Any) -> str:
    """A number of a row with its interval."""
    return ranged(*(show(row[column]) for column in (name, f"{name}_low", f"{name}_high")))
