"""Charts of models that were fine-tuned elsewhere stay readable where many ways to undo were tried."""

from pathlib import Path

import pandas as pd
import pytest

from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.report.figures import elsewhere, tasks, undoing
from made_up_tables import Grid, Tables

WAYS = list(STRATEGY_TRAITS)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    folder: Path = tmp_path_factory.mktemp("tables") / "tables"
    Tables(Grid()).write(folder)
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("fates", "task_trade", "undoing")}


def tried(table: pd.DataFrame, ways: list[str]) -> pd.DataFrame:
    """The table as if each of these ways had been tried like top; of the others nothing is recommended."""
    more = [table[table["strategy"] == "top"].assign(strategy=way, chosen=False) for way in ways if way != "top"]
    return pd.concat([table, *more], ignore_index=True)


def rows(chart) -> list[dict]:
    """The rows of all data that a chart holds."""
    return [row for data in chart.to_dict()["datasets"].values() for row in data]


@pytest.mark.parametrize(("ways", "drawn"), [(["top"], 1), (WAYS[:4], 4), (WAYS, 1)])
def test_lines_that_dashes_tell_apart_are_drawn(frames: dict, ways: list[str], drawn: int) -> None:
    chart = elsewhere.fates({"fates": tried(frames["fates"], ways)})
    assert chart is not None
    lines = {row["sweep"] for row in rows(chart)}
    assert len(lines) == drawn and "top transformer" in lines


def test_points_are_named_by_their_way_where_there_are_several(frames: dict) -> None:
    one, many = (tasks.task_trade({"task_trade": tried(frames["task_trade"], ways)}) for ways in (["top"], WAYS))
    assert one is not None and many is not None
    assert {row["mark"] for row in rows(one)} == {"", "5 %", "20 %", "60 %"}
    for row in rows(many):
        named = row["state"] == tasks.RESTORED and (row["frontier"] or row["chosen"])
        assert row["mark"] == (f"{row['strategy']} {row['percent']:g} %" if named else "")


def test_the_chart_of_ways_leaves_out_models_whose_training_set_is_not_known(frames: dict) -> None:
    table = frames["undoing"]
    assert set(table.loc[table["taught"].isna(), "method"]) == {"tuned"}
    chart = undoing.undoing({"undoing": table})
    assert chart is not None and not any("support-bot" in row["panel"] for row in rows(chart))
    assert undoing.undoing({"undoing": table[table["method"] == "tuned"]}) is None


def test_models_that_were_trained_otherwise_are_points_of_their_own(frames: dict) -> None:
    chart = undoing.undoing({"undoing": frames["undoing"]})
    assert chart is not None
    found = {(row["way"], row["shown"]) for row in rows(chart) if "way" in row}
    assert {("stop_at", "0 % undone"), ("stop_at", "half"), ("stop_at", "quarter"), ("gentle", "gentle")} <= found
    assert ("top", "60 % undone") in found
    places = {row["shown"]: row["place"] for row in rows(chart) if row.get("way") == "stop_at"}
    assert places == {"0 % undone": 0, "half": 1, "quarter": 2}
