"""No cell of a CSV file that we write is a formula, and numbers stay numbers."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowshift.runtime.csv_files import csv_cell, csv_text

FORMULAS = [
    "=1+1",
    '=HYPERLINK("http://x","y")',
    "+SUM(A1)",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1)",
    "\t=1",
    "\n=1",
    " =1",
    "\u00a0=1",
    "＝1+1",
    "-",
    "--",
    "-1-1",
    "+1.2 [=A1, 3]",
    "-1,2;=3",
    "+1 ± A1",
    "-x",
]
NUMBERS = ["-1", "+1.5", "-1,234.5", "−3.2", "-1e-05", "+2.5 ± 1.0", "+1.2 [−0.3, +2.0]", "-0.5 [-1.0, 0.2]"]
OTHERS = ["", "a", "a=b", "5 - 3", "'=1", "1,920", "–", "< 0.001", "−"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_a_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


def test_a_carriage_return_begins_no_row() -> None:
    assert csv_text([["a\r=1", "b"], ["\r\n=1", "c"]]) == '"a\n=1",b\n"\'\n=1",c\n'


@pytest.mark.parametrize("text", [*NUMBERS, *OTHERS])
def test_numbers_and_other_texts_stay_as_they_are(text: str) -> None:
    assert csv_cell(text) == text


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 6))
def test_every_number_stays_a_number(value: float, digits: int) -> None:
    for text in (f"{value:.{digits}e}", f"{value:+,.{digits}f}", str(int(value))):
        assert csv_cell(text) == text


@given(st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=3), max_size=4))
def test_cells_read_back_begin_with_no_sign_of_a_formula(rows: list[list[str]]) -> None:
    back = list(csv.reader(io.StringIO(csv_text(rows), newline="")))
    assert back == [[csv_cell(cell) for cell in row] for row in rows]
    begun = [cell for row in back for cell in row if cell.startswith(tuple("=+-@\t\r\n"))]
    assert not [cell for cell in begun if not cell.lstrip("+-").replace(",", "")[:1].isdigit()]
