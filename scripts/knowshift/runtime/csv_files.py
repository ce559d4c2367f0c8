"""Writes CSV files that spreadsheets open without running what stands in them."""

import csv
import io
import re
from collections.abc import Iterable

# A spreadsheet takes a cell that begins so for a formula, white space before it or not.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\n]")
_NUMBER = r"[+\-−]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
_NUMBERS = re.compile(rf"{_NUMBER}(?: ± {_NUMBER})?(?: \[{_NUMBER}, {_NUMBER}\])?")


def csv_cell(text: str) -> str:
    """Return a text as a cell: with an apostrophe before it where it would be a formula and is no number.

    A number may have a spread (`± 0.1`) or an interval (`[-0.2, 0.3]`) behind it. A carriage return becomes a line
    feed, which is quoted, so that no cell begins a row of its own.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBERS.fullmatch(text) else text


def csv_text(rows: Iterable[Iterable[str]]) -> str:
    """Return rows of cells as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([csv_cell(cell) for cell in row] for row in rows)
    return text.getvalue()
