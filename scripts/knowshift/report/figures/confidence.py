"""Charts of probabilities against answers: how likely the right answer is, and how well the given one knows itself."""

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.frames import Frames

MAX_PANELS = 6  # if there were more, one data kind only is drawn


def right_answer(frames: Frames) -> theme.Drawing | None:
    """Draw the share of questions answered against the probability of the right answer, a panel per data kind."""
    return _against_share(frames["right_answer_bins"], "probability", "probability of the right answer")


def confidence(frames: Frames) -> theme.Drawing | None:
    """Draw the share of right answers against the probability that the model gives its own answer."""
    return _against_share(frames["confidence_bins"], "confidence", "probability of the given answer")


def _against_share(table: pd.DataFrame, column: str, title: str) -> theme.Drawing | None:
    """Draw the share of questions answered against a probability in bins, a panel per data kind.

    Each panel shows the model before fine-tuning, after it, and restored.

    Args:
        table: rows with the columns of a state, bin, questions and accuracy.
        column: the probability's column.
        title: of its axis.
    """
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
    rows = rows[["panel", "state", column, "accuracy", "questions", "bin"]]
    colors = {"before": theme.GREY, "fine-tuned": theme.LOSS, "restored": theme.GAIN}
    color = alt.Color("state:N", title=None, scale=alt.Scale(domain=shown, range=[colors[name] for name in shown]))
    shape = alt.Shape(
        "state:N", title=None, scale=alt.Scale(domain=shown, range=["square", "circle", "triangle-up"][: len(shown)])
    )
    x = alt.X(
        f"{column}:Q",
        title=title,
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
        alt.Tooltip(f"{column}:Q", format=".1%"),
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
