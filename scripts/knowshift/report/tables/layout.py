"""Tables as they are printed: cells of text, and their CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

NOTHING = "–"
_ESCAPES = {"\\": r"\textbackslash{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}",
            "^": r"\textasciicircum{}", "–": "--", "−": "$-$", "±": r"$\pm$", "≥": r"$\geq$"}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A cell of a printed table.

    Attributes:
        text: what it says.
        tone: gain, loss, or nothing.
        sure: the difference is beyond chance after correction.
    """

    text: str
    tone: str = ""
    sure: bool = False


@dataclass(frozen=True)
class Printed:
    """A printed table.

    Attributes:
        name: of its files.
        source: the table of numbers under it.
        title: what to see.
        columns: headings.
        rows: as many cells each.
        reason: why there are no rows; None where there are.
    """

    name: str
    source: str
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    reason: str | None = None

    def csv(self) -> str:
        """The table as CSV, headings first."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([cell.text for cell in row] for row in self.rows)
        return text.getvalue()

    def latex(self) -> str:
        """The table as LaTeX that needs no package: gains and losses beyond chance are bold."""
        body = [" & ".join(map(_latex, self.columns)) + r" \\", r"\hline"]
        for row in self.rows or [[Cell(self.reason or "")] + [Cell("")] * (len(self.columns) - 1)]:
            cells = [rf"\textbf{{{_latex(cell.text)}}}" if cell.sure else _latex(cell.text) for cell in row]
            body.append(" & ".join(cells) + r" \\")
        lines = "\n".join(body)
        return (
            f"\\begin{{table}}\n\\caption{{{_latex(self.title)}}}\n\\label{{tab:{self.name.replace('_', '-')}}}\n"
            f"\\begin{{tabular}}{{{'l' * len(self.columns)}}}\n\\hline\n{lines}\n\\hline\n\\end{{tabular}}\n\\end{{table}}\n"
        )


def _latex(text: str) -> str:
    return "".join(_ESCAPES.get(sign, sign) for sign in text)


def absent(value: object) -> bool:
    return value is None or bool(pd.isna(value))


def percent(value: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 in percent, without the sign."""
    return NOTHING if absent(value) else f"{100 * value:.{digits}f}"


def spread_percent(value: float | None, spread: float | None) -> str:
    """A share in percent, with its standard deviation over seeds where there are several."""
    return percent(value) if absent(spread) else f"{percent(value)} ± {percent(spread)}"


def number(value: float | None, digits: int = 2) -> str:
    return NOTHING if absent(value) else f"{value:,.{digits}f}".replace("-", "−")


def count(value: float | None) -> str:
    return NOTHING if absent(value) else f"{int(value):,}"


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign."""
    return NOTHING if absent(value) else f"{100 * value:+.1f}".replace("-", "−")


def ranged(value: str, low: str, high: str) -> str:
    """A number and its interval."""
    return value if NOTHING in (value, low, high) else f"{value} [{low}, {high}]"


def percent_ranged(row: dict, name: str, low: str | None = None, high: str | None = None) -> str:
    """An accuracy of a row with its interval, in percent."""
    ends = [low or f"{name}_low", high or f"{name}_high"]
    return ranged(percent(row[name]), *(percent(row[end]) for end in ends))


def points_ranged(row: dict, name: str) -> str:
    """A difference of a row with its interval, in points."""
    return ranged(*(points(row[column]) for column in (name, f"{name}_low", f"{name}_high")))


def label(value: object) -> str:
    """A value of a column that names rows."""
    if absent(value):
        return NOTHING
    if isinstance(value, int | float | np.integer):
        return f"{int(value):,}"
    return re.sub(r"^level(\d)$", r"level \1", str(value))


def naming(table: pd.DataFrame, *more: str) -> dict[str, str]:
    """Columns that name the rows of a table, with their headings: model and method only where there are several."""
    tuned = table[table["size"].notna()] if "size" in table else table
    several = [name for name in ("model", "method") if name in table and tuned[name].nunique() > 1]
    headings = {"data": "training data", "size": "facts", "seeds": "seeds"}
    return {name: headings.get(name, name) for name in (*several, *more)}


def pivot(
    table: pd.DataFrame,
    by: Mapping[str, str],
    across: Mapping[tuple, str],
    over: Sequence[str],
    show: Callable[[dict], Cell],
) -> tuple[list[str], list[list[Cell]]]:
    """Headings and rows of a table that is spread out sideways.

    Args:
        by: columns that name a row, with their headings.
        across: values of the columns `over`, with their headings, in order.
        show: the cell of a row of `table`; where there is none, nothing is shown.
    """
    rows = []
    for key, group in table.groupby(list(by), sort=False, dropna=False):
        found = {tuple(row[name] for name in over): row for row in group.to_dict("records")}
        shown = [show(found[value]) if value in found else Cell(NOTHING) for value in across]
        rows.append([*(Cell(label(part)) for part in key), *shown])
    return [*by.values(), *across.values()], rows


SETS = {"test": "in-domain", "test_ood": "out-of-domain"}


NOT_RUN = "No cell of this experiment has data for this table."


def reason(rows: list) -> str | None:
    """Why a table has no rows."""
    return None if rows else NOT_RUN
