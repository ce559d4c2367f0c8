"""Charts of what is known, net of noise: reliability of levels, churn between seeds, and kinds of wrong answers."""

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import PERCENT, REFERENCE_NAMES
from knowshift.report.frames import Frames

MAX_CELLS = 14  # of a model with more cells, charts show only the largest size of each data kind
KIND_COLORS = {
    "right": "#2f8578",
    "near": "#a07c22",
    "other object": theme.LOSS,
    "other": theme.GREY,
    "nothing": "#6a55b0",
}
# What the marks of `churn` stand for: column, shape.
CHURN_MARKS = {
    "one seed, on average": ("share", "circle"),
    "every seed": ("in_every_seed", "diamond"),
    "every seed, if by churn alone": ("expected_in_every_seed", "cross"),
}


def level_regression(frames: Frames) -> theme.Drawing | None:
    """Draw the mean mastery in the second half of the completions over that in the first, a mark per level."""
    table = frames["level_regression"]
    table = table[table["domain"].isna()].copy()
    if table.empty:
        return None
    table["panel"] = theme.panel_names(table)
    share = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X("observed:Q", title="R where the level was observed", scale=share, axis=alt.Axis(format="%", tickCount=5))
    y = alt.Y("expected:Q", title="R in the other half", scale=share, axis=alt.Axis(format="%", tickCount=5))
    tip = [
        "level:O",
        "facts:Q",
        *(alt.Tooltip(f"{name}:Q", format=PERCENT) for name in ("observed", "expected", "same_level")),
    ]
    ends = pd.DataFrame({"at": [0.0, 1.0], "panel": [table["panel"].iloc[0]] * 2})
    ends = pd.concat([ends.assign(panel=panel) for panel in dict.fromkeys(table["panel"])])
    base = alt.Chart().transform_filter("isValid(datum.level)")
    chart = alt.layer(
        alt.Chart()
        .transform_filter("isValid(datum.at)")
        .mark_line(strokeDash=theme.DASH, color=theme.GREY, strokeWidth=1.3)
        .encode(x=alt.X("at:Q", scale=share), y=alt.Y("at:Q", scale=share)),
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(x=x, y=alt.Y("low:Q", scale=share), y2="high:Q"),
        base.mark_point(size=70).encode(x=x, y=y, color=theme.level_color("observed level"), tooltip=tip),
    ).properties(width=theme.PANEL, height=theme.PANEL)
    return theme.panels(chart, pd.concat([table, ends]))


def churn(frames: Frames) -> theme.Drawing | None:
    """Draw the share of known facts lost, and of unknown facts learned: in a seed, in every seed, and by chance."""
    table = frames["churn"]
    table = table[(table["set"] == "test") & table["knowledge"].isin(["known", "unknown"])].copy()
    if table.empty:
        return None
    if len(table) > 2 * MAX_CELLS * table["model"].nunique():
        table = table[table["size"] == table.groupby(["model", "method", "data"])["size"].transform("max")].copy()
    titles = {"known": "known facts: lost", "unknown": "unknown facts: learned"}
    table["panel"] = theme.panel_names(table, table["knowledge"].map(titles))
    table["cell"] = _cell_names(table)
    table = table.sort_values(["method", "data", "size", "knowledge"], kind="stable")
    parts = [table.assign(mark=mark, value=table[column]) for mark, (column, _) in CHURN_MARKS.items()]
    keep = ["panel", "cell", "data", "mark", "value", "facts", "seeds", "disagreement"]
    data = pd.concat(parts)[keep].dropna(subset=["value"])
    x = alt.X(
        "value:Q", title="share of them", axis=alt.Axis(format="%", grid=True, tickCount=5), scale=alt.Scale(zero=True)
    )
    y = alt.Y("cell:N", title=None, sort=list(dict.fromkeys(table["cell"])), axis=alt.Axis(labelLimit=160))
    marks = [mark for mark in CHURN_MARKS if mark in set(data["mark"])]
    shape = alt.Shape(
        "mark:N",
        title=None,
        scale=alt.Scale(domain=marks, range=[CHURN_MARKS[mark][1] for mark in marks]),
        legend=alt.Legend(columns=3, symbolFillColor="transparent", symbolStrokeColor=theme.GREY),
    )
    tip = ["cell:N", "mark:N", *(alt.Tooltip(f"{name}:Q", format=PERCENT) for name in ("value", "disagreement"))]
    tip += [alt.Tooltip("facts:Q"), alt.Tooltip("seeds:Q")]
    chart = (
        alt.Chart()
        .mark_point(size=60, filled=False)
        .encode(x=x, y=y, shape=shape, color=theme.kind_color(table["data"]), tooltip=tip)
        .properties(width=theme.PANEL - 60, height=alt.Step(19))
    )
    return theme.panels(chart, data, gap=8, between=40)


def wrong_answers(frames: Frames) -> theme.Drawing | None:
    """Draw what the answers to in-domain test questions are, a panel per mastery level and a bar per model."""
    table = frames["wrong_answers"]
    table = table[table["set"] == "test"].copy()
    if table.empty:
        return None
    size = table.groupby(["model", "method", "data"], dropna=False)["size"].transform("max")
    table = table[table["size"].isna() | (table["size"] == size)].copy()
    table["panel"] = theme.panel_names(table, "level " + table["level"].astype(str))
    table["cell"] = _cell_names(table)
    rank = {
        name: number
        for number, name in enumerate([*REFERENCE_NAMES, *sorted(set(table["method"]) - {*REFERENCE_NAMES})])
    }
    ordered = table.sort_values(["method", "data"], key=lambda column: column.map(rank).fillna(column.map(_rank)))
    shown = [kind for kind in KIND_COLORS if kind in set(table[table["answers"] > 0]["kind"])]
    table = table[table["answers"] > 0]
    table["rank"] = table["kind"].map(list(KIND_COLORS).index)
    x = alt.X(
        "share:Q",
        title=None,
        stack="zero",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", values=[0, 0.5, 1], grid=True),
    )
    y = alt.Y("cell:N", title=None, sort=list(dict.fromkeys(ordered["cell"])), axis=alt.Axis(labelLimit=160))
    color = alt.Color(
        "kind:N",
        title=None,
        scale=alt.Scale(domain=shown, range=[KIND_COLORS[kind] for kind in shown]),
        legend=alt.Legend(columns=5, symbolType="square"),
    )
    tip = ["cell:N", "kind:N", alt.Tooltip("answers:Q"), alt.Tooltip("share:Q", format=PERCENT)]
    bars = alt.Chart().mark_bar(height={"band": 0.78}).encode(x=x, y=y, color=color, order="rank:Q", tooltip=tip)
    order = list(dict.fromkeys(table.sort_values(["model", "level"], kind="stable")["panel"]))
    data = table[["panel", "cell", "kind", "rank", "answers", "share"]]
    return theme.panels(bars.properties(width=112, height=alt.Step(19)), data, columns=3, sort=order, gap=6, between=36)


def _rank(value: object) -> int:
    """The place of a data kind in the order of kinds; other values come first."""
    return theme.KINDS.index(str(value)) if value in theme.KINDS else -1


def _cell_names(table: pd.DataFrame) -> pd.Series:
    """Name each row's model: data kind, number of facts and method; or what answered without fine-tuning."""
    names = []
    for row in table.to_dict("records"):
        if pd.isna(row["data"]):
            names.append(REFERENCE_NAMES.get(row["method"], row["method"]))
        else:
            method = "" if row["method"] == "full" else f", {row['method']}"
            names.append(f"{theme.kind_name(row['data'])}, {row['size']:,.0f}{method}")
    return pd.Series(names, index=table.index)
