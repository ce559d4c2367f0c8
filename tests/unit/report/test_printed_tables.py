"""Printed tables: how they are laid out, and that accuracies stand beside what answers without fine-tuning."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from knowshift.report.figures.lines import REFERENCE_NAMES
from knowshift.report.tables import parameters, scores
from knowshift.report.tables.catalogue import printed_tables
from knowshift.report.tables.layout import PrintedTable, TableCell, naming, pivot, spread_percent
from made_up_tables import Grid, Tables


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    folder: Path = tmp_path_factory.mktemp("tables") / "tables"
    Tables(Grid(instruct=True, blocks=("0-9",))).write(folder)
    return {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}


@pytest.mark.parametrize("lay_out", [scores.accuracy, scores.accuracy_levels, scores.level4_and_kl, parameters.restored,
                                     parameters.restored_blocks])  # fmt: skip
def test_accuracies_stand_beside_the_baselines(lay_out, frames: dict) -> None:
    shown = lay_out(frames)
    baselines = [row for row in shown.rows if row[0].text in REFERENCE_NAMES]
    assert {row[0].text for row in baselines} == set(REFERENCE_NAMES)
    assert len(baselines) < len(shown.rows)
    known = frames["scores"].query("method == 'few-shot' and set == 'test'")["accuracy"].item()
    if lay_out is not scores.level4_and_kl:
        assert any(f"{100 * known:.1f}" in cell.text for row in baselines for cell in row)


def test_numbers_of_printed_tables_stay_numbers_in_csv(frames: dict) -> None:
    cells = 0
    for name, shown in printed_tables(frames).items():
        rows = [shown.columns, *([cell.text for cell in row] for row in shown.rows)]
        assert list(csv.reader(io.StringIO(shown.csv()))) == rows, name
        cells += sum(cell.startswith(("+", "-")) for row in rows for cell in row)
    assert cells > 10  # there are signed numbers among them
    one = PrintedTable("t", ["=A1"], [[TableCell("=1+1")], [TableCell("-2")]])
    assert one.csv() == "'=A1\n'=1+1\n-2\n"


def test_printed_tables_read_the_same_in_csv_and_latex() -> None:
    table = pd.DataFrame(
        [
            {"data": "level0", "size": 1920, "percent": 0.0, "accuracy": 0.5, "spread": 0.01},
            {"data": "level0", "size": 1920, "percent": 5.0, "accuracy": 0.61, "spread": np.nan},
            {"data": None, "size": None, "percent": 0.0, "accuracy": np.nan, "spread": np.nan},
        ]
    )
    across = {(0.0,): "0 %", (5.0,): "5 %"}
    columns, rows = pivot(
        table, naming(table, "data", "size"), across, ["percent"],
        lambda row: TableCell(spread_percent(row["accuracy"], row["spread"]), "gain", bool(row["percent"])),
    )  # fmt: skip
    one = PrintedTable("100 % & more_", columns, rows)
    assert one.csv() == 'training data,facts,0 %,5 %\nlevel 0,"1,920",50.0 ± 1.0,61.0\n–,–,–,–\n'
    latex = one.latex("a_table")
    assert r"\caption{100 \% \& more\_}" in latex and r"level 0 & 1,920 & 50.0 $\pm$ 1.0 & \textbf{61.0} \\" in latex
    assert "nothing of it was run" in PrintedTable("t", columns, [], "nothing of it was run").latex("b")
