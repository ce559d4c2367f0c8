"""Charts of how far next-token distributions moved."""

from collections.abc import Hashable, Mapping
from typing import Any

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import lines_by_size, tuned
from knowshift.report.frames import Frames


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
