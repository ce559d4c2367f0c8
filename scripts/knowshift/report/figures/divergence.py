"""Charts of what models predict: how far next-token distributions moved, and how well calibrated they are."""

from collections.abc import Hashable, Mapping
from typing import Any

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import lines_by_size, tuned
from knowshift.report.frames import Frames

MAX_PANELS = 6  # if `calibration` had more panels, it draws one data kind only


def divergence(frames: Frames) -> theme.Drawing | None:
    """Draw accuracy on level-4 questions beside KL to the pre-trained model, both over the number of training facts."""
    table = tuned(frames["shifts"]).dropna(subset=["kl"])
    if table.empty:
        return None
    charts = []
    known = theme.axis_domain(table["accuracy_low"], table["accuracy_high"], table["accuracy"], table["before"])
    moved = theme.axis_domain(table["low"], table["high"], table["kl"], top=None)
    for panel in dict.fromkeys(table["panel"]):
        rows = table[table["panel"] == panel]
        start = rows[["panel", "before"]].drop_duplicates().rename(columns={"before": "reference"})
        heading = f", {panel}" if panel else ""
        if rows["accuracy"].notna().any():
            data, layers = lines_by_size(
                rows.dropna(subset=["accuracy"]),
                "accuracy",
                "accuracy_low",
                "accuracy_high",
                None,
                known,
                start,
            )
            left = alt.layer(*theme.zoomed(layers, known), data=data)
            charts.append(left.properties(title=f"accuracy on level 4{heading}"))
        data, layers = lines_by_size(rows, "kl", "low", "high", None, moved, percent=False)
        charts.append(alt.layer(*theme.zoomed(layers, moved), data=data).properties(title=f"KL, nats{heading}"))
    charts = [chart.properties(width=theme.PANEL, height=theme.HEIGHT) for chart in charts]
    return alt.concat(*charts, columns=2, spacing={"row": 36, "column": 84})


def correlation(frames: Frames) -> theme.Drawing | None:
    """Draw accuracy on level-4 questions against KL, a mark per cell, and their rank correlation over all cells."""
    table = tuned(frames["shifts"]).dropna(subset=["kl", "accuracy"])
    if table.empty:
        return None
    domain = theme.axis_domain(table["accuracy"], margin=0.1)
    ranks = frames["correlations"]
    ranks = ranks[ranks["data"].isna() & (ranks["method"] == "full")].dropna(subset=["spearman"])
    ranks = ranks.merge(table[["model", "set", "panel"]].drop_duplicates(), on=["model", "set"])
    ranks["text"] = [_rank_text(row) for row in ranks.to_dict("records")]
    color = theme.kind_color(table["data"], legend=True)
    tip = [
        alt.Tooltip("name:N", title="training data"),
        alt.Tooltip("size:Q", title="facts"),
        alt.Tooltip("kl:Q", title="KL, nats", format=".3f"),
        alt.Tooltip("accuracy:Q", title="level 4", format=".1%"),
    ]
    x = alt.X("kl:Q", title="KL to pre-trained, nats", scale=alt.Scale(zero=False, padding=12))
    y = theme.share("accuracy", "accuracy, level 4", domain)
    points = alt.Chart().transform_filter("isValid(datum.kl)")
    layers = [
        points.mark_point(opacity=0.85).encode(
            x=x,
            y=y,
            color=color,
            tooltip=tip,
            size=alt.Size(
                "size:Q",
                title="training facts",
                scale=alt.Scale(type="sqrt", range=[25, 200]),
                legend=alt.Legend(values=_few(table["size"]), format="d", symbolFillColor=theme.GREY),
            ),
        ),
        alt.Chart()
        .transform_filter("isValid(datum.text)")
        .mark_text(align="right", baseline="top")
        .encode(x=alt.value(theme.PANEL), y=alt.value(0), text="text:N"),
    ]
    chart = alt.layer(*layers).properties(width=theme.PANEL, height=theme.HEIGHT)
    columns = ["panel", "data", "name", "size", "kl", "accuracy"]
    return theme.panels(
        chart, pd.concat([table[columns], ranks[["panel", "text"]]]), sort=list(dict.fromkeys(table["panel"]))
    )


def _rank_text(row: Mapping[Hashable, Any]) -> str:
    """Format a rank correlation with its interval, if it has one."""
    interval = "" if pd.isna(row["low"]) else f" [{row['low']:.2f}, {row['high']:.2f}]"
    return f"ρ = {row['spearman']:.2f}{interval}".replace("-", "−")


def _few(values: pd.Series) -> list[int]:
    """Return the smallest, the median and the largest of some values, for a legend."""
    found = sorted({int(value) for value in values})
    return sorted({found[0], found[len(found) // 2], found[-1]})


def calibration(frames: Frames) -> theme.Drawing | None:
    """Draw the share of questions answered against the probability of the right answer, a panel per data kind.

    Each panel shows the model before fine-tuning, after it, and restored.
    """
    table = frames["calibration"]
    table = table[(table["set"] == "test") & (table["questions"] > 0)]
    after = table[(table["state"] != "before") & table["data"].notna()]
    if after.empty:
        return None
    method = "full" if (after["method"] == "full").any() else after["method"].iloc[0]
    after = after[after["method"] == method]
    kinds = [kind for kind in theme.KINDS if kind in set(after["data"])]
    if len(after[["model", "data"]].drop_duplicates()) > MAX_PANELS:
        kinds = ["mixed"] if "mixed" in kinds else kinds[:1]
        after = after[after["data"].isin(kinds)]
    start = table[table["state"] == "before"].drop(columns="data")
    known = after[["model", "data"]].drop_duplicates().merge(start, on="model")
    rows = pd.concat([known, after])
    rows = rows.sort_values("data", kind="stable", key=lambda column: column.map(theme.KINDS.index))
    rows["panel"] = theme.panel_names(rows, rows["data"].map(theme.kind_name))
    rows["state"] = rows["state"].map(theme.STATE_NAMES)
    shown = [name for name in theme.STATE_NAMES.values() if name in set(rows["state"])]
    rows = rows[["panel", "state", "probability", "accuracy", "questions", "bin"]]
    colors = {"before": theme.GREY, "fine-tuned": theme.LOSS, "restored": theme.GAIN}
    color = alt.Color("state:N", title=None, scale=alt.Scale(domain=shown, range=[colors[name] for name in shown]))
    shape = alt.Shape(
        "state:N", title=None, scale=alt.Scale(domain=shown, range=["square", "circle", "triangle-up"][: len(shown)])
    )
    x = alt.X(
        "probability:Q",
        title="probability of the right answer",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", tickCount=3),
    )
    y = theme.share("accuracy", "share answered", [0, 1])
    diagonal = (
        alt.Chart()
        .transform_aggregate(rows="count()", groupby=["panel"])
        .transform_calculate(start="0", end="1")
        .mark_rule(opacity=0.3)
        .encode(x=alt.X("start:Q"), x2="end:Q", y=alt.Y("start:Q"), y2="end:Q")
    )
    columns = 3 if rows["panel"].nunique() > 2 else 2
    tip = [
        "state:N",
        alt.Tooltip("probability:Q", format=".1%"),
        alt.Tooltip("accuracy:Q", format=".1%"),
        "questions:Q",
    ]
    marks = (
        alt.Chart()
        .mark_point(opacity=0.9)
        .encode(
            x=x,
            y=y,
            color=color,
            shape=shape,
            tooltip=tip,
            size=alt.Size("questions:Q", legend=None, scale=alt.Scale(type="sqrt", range=[15, 110])),
        )
    )
    lines = alt.Chart().mark_line(strokeWidth=1.5).encode(x=x, y=y, color=color, order="bin:Q")
    chart = alt.layer(diagonal, lines, marks).properties(width=165 if columns == 3 else theme.PANEL, height=165)
    return theme.panels(chart, rows, columns=columns, between=40)
