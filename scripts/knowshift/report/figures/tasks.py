"""The chart of the trade: how well each model of a cell does a task, against what it knows."""

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import PERCENT
from knowshift.report.frames import Frames

TUNED, RESTORED, BASE = "as fine-tuned", "restored", "pre-trained"
KEEPS, FAILS = "keeps the task on dev", "does not"


def task_trade(frames: Frames) -> theme.Drawing | None:
    """Draw score against knowledge, a point per model, with the frontier; a panel for each cell and task."""
    table = frames["task_trade"]
    if table.empty:
        return None
    cells = table[table["frontier"].notna()].astype({"frontier": bool, "keeps": bool})
    base = table[table["frontier"].isna()].drop(columns=["method", "data", "size", "asked"])
    keys = cells[["model", "task", "method", "data", "size", "asked"]].drop_duplicates()
    base = keys.merge(base, on=["model", "task"]).assign(state=BASE, frontier=False, keeps=True)
    state = cells["percent"].isna().map({True: TUNED, False: RESTORED})
    data = pd.concat([base, cells.assign(state=state)]).reset_index(drop=True)
    named = [data["data"].map(theme.kind_name)]
    if data["size"].notna().any() and data["size"].nunique() > 1:
        named.append(data["size"].map("{:g} facts".format).where(data["size"].notna(), ""))
    if data["method"].nunique() > 1 or data["data"].nunique() > 1 or data["task"].nunique() > 1:
        named.append(data["task"])
    data["panel"] = theme.panel_names(data, *named) if keys[["model", "data", "task"]].shape[0] > 1 else ""
    percents = data["percent"].map("{:g} %".format)
    data["what"] = percents.where(data["state"] == RESTORED, data["state"])
    data["mark"] = percents.where(data["state"] == RESTORED, "")  # the legend names the others
    data["where"] = (data["strategy"].fillna("") + " " + data["region"].fillna("")).str.strip()
    if data.loc[data["state"] == RESTORED, "where"].nunique() > 1:  # names of all would cover each other
        names = (data["strategy"].fillna("") + " " + data["mark"]).str.strip()
        data["mark"] = names.where(data["frontier"] | data["chosen"], "")
    data["kept"] = data["keeps"].map({True: KEEPS, False: FAILS}).where(data["state"] != BASE, BASE)
    shares = bool((data["metric"] != "loglikelihood").all())
    floor = data[data["state"] == TUNED]
    data["least"] = data["panel"].map(dict(zip(floor["panel"], floor["score"] - floor["tolerance"], strict=True)))
    return _drawn(data, shares)


def _drawn(data: pd.DataFrame, shares: bool) -> theme.Drawing:
    """Draw the panels.

    Args:
        data: a row per point.
        shares: whether all scores are shares of examples; otherwise some are nats.
    """
    axis = alt.Axis(format="%", tickCount=5) if shares else alt.Axis(tickCount=5)

    def x(field: str) -> alt.X:  # every layer has the same title, or Vega-Lite would join them
        title, scale = "knowledge: in-domain test facts answered", alt.Scale(zero=False)
        return alt.X(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(format="%", tickCount=5))

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title="task: score on the test half", scale=alt.Scale(zero=False), axis=axis)

    format_ = PERCENT if shares else ".3f"
    tip = [
        alt.Tooltip("what:N", title="model"),
        alt.Tooltip("where:N", title="restored"),
        alt.Tooltip("knowledge:Q", format=PERCENT),
        alt.Tooltip("score:Q", format=format_),
        alt.Tooltip("score_low:Q", title="from", format=format_),
        alt.Tooltip("score_high:Q", title="to", format=format_),
        alt.Tooltip("score_dev:Q", title="on the dev half", format=format_),
    ]
    colors = {KEEPS: theme.GAIN, FAILS: theme.LOSS, BASE: theme.GREY}
    color = alt.Color("kept:N", title=None, scale=alt.Scale(domain=[*colors], range=[*colors.values()]))
    shape = alt.Shape(
        "state:N", title=None, scale=alt.Scale(domain=[TUNED, RESTORED, BASE], range=["square", "circle", "cross"])
    )
    chart, at = alt.Chart(), {"x": x("knowledge"), "y": y("score")}
    frontier, chosen = (chart.transform_filter(f"datum.{name}") for name in ("frontier", "chosen"))
    layers = [
        chart.mark_rule(strokeDash=theme.DASH, color=theme.GREY).encode(y=y("min(least)")),
        frontier.mark_line(color=theme.TEXT, opacity=0.5, strokeWidth=1.3).encode(**at, order="knowledge:Q"),
        chart.mark_rule(opacity=0.25).encode(x=at["x"], y=y("score_low"), y2="score_high:Q", color=color),
        chart.mark_rule(opacity=0.25).encode(x=x("knowledge_low"), x2="knowledge_high:Q", y=at["y"], color=color),
        chart.mark_point(size=60).encode(**at, color=color, shape=shape, tooltip=tip),
        chosen.mark_point(shape="circle", filled=False, size=190).encode(**at, color=color),
        chart.mark_text(dx=7, dy=-9, align="left", fontSize=11).encode(**at, text="mark:N"),
    ]
    panels = data["panel"].nunique()
    layered = alt.layer(*layers).properties(width=theme.WIDE if panels < 2 else theme.PANEL, height=theme.HEIGHT + 60)
    drawn = theme.panels(layered, data)
    return drawn.resolve_scale(x="independent", y="independent") if isinstance(drawn, alt.FacetChart) else drawn
