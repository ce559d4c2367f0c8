"""How printed tables are laid out: cells of text, rows and columns, number formats, CSV and LaTeX."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from knowshift.report.frames import TUNED
from knowshift.runtime.csv_files import csv_text

NOTHING = "–"  # in place of a value that is not there
NOT_RUN = "No cell of this experiment has data for this table."
# Sets of questions that are held out from training, and how headings name them.
SET_HEADINGS = {"test": "in-domain", "test_ood": "out-of-domain"}

_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
}


@dataclass(frozen=True)
class TableCell:
    """A cell of a printed table.

    Attributes:
        text: its text.
        tone: "gain" or "loss" colours the cell; "" does not.
        sure: whether the difference that it shows is significant; it is then set in bold.
    """

    text: str
    tone: str = ""
    sure: bool = False


@dataclass(frozen=True)
class PrintedTable:
    """A table as it is printed.

    Attributes:
        title: what the table shows, and how to read it.
        columns: headings, one per column.
        rows: the rows, each with one cell per column.
        reason: why there are no rows; it is printed only then.
    """

    title: str
    columns: list[str]
    rows: list[list[TableCell]]
    reason: str = NOT_RUN

    def csv(self) -> str:
        """Return the table as CSV, headings first."""
        return csv_text([self.columns, *([cell.text for cell in row] for row in self.rows)])

    def latex(self, name: str) -> str:
        """Return the table as LaTeX that needs no package, with the label `tab:NAME`."""
        body = [" & ".join(map(_latex, self.columns)) + r" \\", r"\hline"]
        for row in self.rows or [[TableCell(self.reason)] + [TableCell("")] * (len(self.columns) - 1)]:
            cells = [rf"\textbf{{{_latex(cell.text)}}}" if cell.sure else _latex(cell.text) for cell in row]
            body.append(" & ".join(cells) + r" \\")
        lines = [
            r"\begin{table}",
            rf"\caption{{{_latex(self.title)}}}",
            rf"\label{{tab:{name.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{'l' * len(self.columns)}}}",
            r"\hline",
            *body,
            r"\hline",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"


def _latex(text: str) -> str:
    return "".join(_LATEX_ESCAPES.get(sign, sign) for sign in text)


def absent(value: Any) -> bool:
    """Tell whether a value is None, NaN or NA."""
    return value is None or bool(pd.isna(value))


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share from 0 to 1 in percent, without the percent sign."""
    return NOTHING if value is None or absent(value) else f"{100 * value:.{digits}f}"


def spread_percent(value: float | None, spread: float | None) -> str:
    """Format a share from 0 to 1 in percent, with its standard deviation over seeds if it has one."""
    return percent(value) if absent(spread) else f"{percent(value)} ± {percent(spread)}"


def number(value: float | None, digits: int = 2) -> str:
    """Format a number with thousands separated."""
    return NOTHING if value is None or absent(value) else f"{value:,.{digits}f}".replace("-", "−")


def count(value: float | None) -> str:
    """Format a whole number with thousands separated."""
    return NOTHING if value is None or absent(value) else f"{int(value):,}"


def points(value: float | None) -> str:
    """Format a difference of shares in percentage points, with its sign."""
    return NOTHING if value is None or absent(value) else f"{100 * value:+.1f}".replace("-", "−")


def distance(value: float, unit: str) -> str:
    """Format a distance in the unit of a claim's number: points (of shares from 0 to 1), nats or correlation."""
    return (
        f"{100 * value:.1f} points" if unit == "points" else f"{value:.2f} nats" if unit == "nats" else f"{value:.2f}"
    )


def p_value(value: float | None) -> str:
    """Format a p value."""
    if value is None or absent(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def ranged(value: str, low: str, high: str) -> str:
    """Append an interval to a formatted number, unless one of the three is missing."""
    return value if NOTHING in (value, low, high) else f"{value} [{low}, {high}]"


def percent_ranged(row: Mapping[Hashable, Any], name: str, low: str | None = None, high: str | None = None) -> str:
    """Format a share of a row in percent with its interval.

    Args:
        name: column of the share.
        low, high: columns of the interval's ends; NAME_low and NAME_high by default.
    """
    ends = [low or f"{name}_low", high or f"{name}_high"]
    return ranged(percent(row[name]), *(percent(row[end]) for end in ends))


def points_ranged(row: Mapping[Hashable, Any], name: str) -> str:
    """Format a difference of a row in percentage points with its interval, columns NAME_low and NAME_high."""
    low, high = (points(row[f"{name}_{end}"]) for end in ("low", "high"))
    return ranged(points(row[name]), low, high)


def label(value: Any) -> str:
    """Format a value that names a row: a data kind, a size, a text."""
    if absent(value):
        return NOTHING
    if isinstance(value, int | float | np.integer):
        return f"{int(value):,}"
    return re.sub(r"^level(\d)$", r"level \1", str(value))


def made(method: str, data: str, size: float) -> str:
    """Say what a model was trained on, as in "full, level 2, 240 facts"; or that it was trained elsewhere."""
    return f"{data}, tuned elsewhere" if absent(size) else f"{method}, {label(data)}, {count(size)} facts"


def share_restored(row: Mapping[Hashable, Any], strategy: str = "strategy") -> str:
    """Say which parameters are restored, as in "top 20 % of transformer restored".

    Args:
        row: with the columns region and percent.
        strategy: the column of the strategy.
    """
    return f"{row[strategy]} {row['percent']:g} % of {row['region']} restored" if row["percent"] else "nothing restored"


def naming(table: pd.DataFrame, *more: str) -> dict[str, str]:
    """Return the columns that name the rows of a table, with their headings.

    Model and method are among them only if the table has several.

    Args:
        more: further columns, in their order.
    """
    tuned = table
    if {"size", "method"} <= set(table):
        tuned = table[table["size"].notna() | (table["method"] == TUNED)]
    several = [name for name in ("model", "method") if name in table and tuned[name].nunique() > 1]
    headings = {"data": "training data", "size": "facts", "seeds": "seeds"}
    return {name: headings.get(name, name) for name in (*several, *more)}


def pivot(
    table: pd.DataFrame,
    by: Mapping[str, str],
    across: Mapping[tuple, str],
    over: Sequence[str],
    show: Callable[[dict], TableCell],
) -> tuple[list[str], list[list[TableCell]]]:
    """Turn a long table into a wide one.

    Args:
        table: one row per cell of the wide table.
        by: columns of `table` that name a row of the wide table, with their headings.
        across: values of the columns `over`, one tuple per column of the wide table, with their headings, in order.
        over: columns of `table` that name a column of the wide table.
        show: makes a cell from a row of `table`; where `table` has no row, the cell says that nothing is there.

    Returns:
        Headings and rows.
    """
    rows = []
    for key, group in table.groupby(list(by), sort=False, dropna=False):
        found = {tuple(row[name] for name in over): row for row in group.to_dict("records")}
        shown = [show(found[value]) if value in found else TableCell(NOTHING) for value in across]
        rows.append([*(TableCell(label(part)) for part in key), *shown])
    return [*by.values(), *across.values()], rows
