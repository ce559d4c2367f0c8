"""Charts of training loss, and of what every stage cost."""

import altair as alt

from knowshift.report.figures import theme
from knowshift.report.frames import Frames

MAX_SIZES = 4  # of one model, `loss` draws the largest sizes; of several, only the largest one of each


def loss(frames: Frames) -> theme.Drawing | None:
    """Draw training loss by step, mean over seeds: a panel per number of training facts, a line per data kind.

    Sizes that not every data kind of the model was run at are left out.
    """
    table = frames["loss_curves"]
    if table.empty:
        return None
    table = table[table["method"] == ("full" if (table["method"] == "full").any() else table["method"].iloc[0])].copy()
    kinds = table.groupby(["model", "size"])["data"].transform("nunique")
    table = table[kinds == table.groupby("model")["data"].transform("nunique")] if kinds.max() > 1 else table
    several = table["model"].nunique() > 1
    rank = table.groupby("model")["size"].rank("dense", ascending=False)
    table = table[rank <= (1 if several else MAX_SIZES)].sort_values(["model", "size", "step"], kind="stable")
    table["panel"] = theme.panel_names(table, table["size"].map("{:,.0f} facts".format))
    if table["panel"].nunique() == 1:
        table["panel"] = ""
    table["name"] = table["data"].map(theme.kind_name)
    domain = theme.axis_domain(table["lowest"], table["highest"], top=None)
    ends = table[table["step"] == table.groupby(["panel", "name"])["step"].transform("max")]
    ends = theme.spread_labels(ends, "loss", domain, 170)
    table = table.merge(ends[["panel", "name", "step", "label_at"]], on=["panel", "name", "step"], how="left")
    table = table[["panel", "data", "name", "size", "step", "loss", "lowest", "highest", "seeds", "label_at"]]
    x = alt.X(
        "step:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(format="d", tickMinStep=1, tickCount=6)
    )
    y = alt.Y(
        "loss:Q", title="loss, nats per token", scale=alt.Scale(domain=domain, nice=False), axis=alt.Axis(tickCount=5)
    )
    color = theme.kind_color(table["data"])
    tip = ["name:N", alt.Tooltip("step:Q", format=".0f"), alt.Tooltip("loss:Q", format=".3f"), "seeds:Q"]
    base = alt.Chart()
    layers = [
        base.mark_area(opacity=0.1).encode(x=x, y="lowest:Q", y2="highest:Q", color=color, detail="name:N"),
        base.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=color, detail="name:N", tooltip=tip),
        base.transform_filter("isValid(datum.label_at)")
        .mark_text(align="left", dx=6)
        .encode(x=x, y="label_at:Q", text="name:N", color=color),
    ]
    chart = alt.layer(*layers).properties(width=theme.PANEL, height=170)
    drawn = theme.panels(chart, table)
    return drawn.resolve_scale(x="independent") if isinstance(drawn, alt.FacetChart) else drawn


def costs(frames: Frames) -> theme.Drawing | None:
    """Draw time and largest memory of every stage, over all its jobs."""
    table = frames["costs"]
    if table.empty:
        return None
    table = table.assign(stage=table["stage"].str.replace("_", " "))
    order = list(dict.fromkeys(table["stage"]))
    sums = {"jobs": ("jobs", "sum"), "seconds": ("seconds", "sum"), "memory": ("memory", "max")}
    table = table.groupby("stage", as_index=False).agg(**sums, tokens_per_second=("tokens_per_second", "mean"))
    longest = table["seconds"].max()
    unit, seconds = ("hours", 3600) if longest > 7200 else ("minutes", 60) if longest > 180 else ("seconds", 1)
    table["time"] = table["seconds"] / seconds
    table["gigabytes"] = table["memory"] / 1000
    y = alt.Y("stage:N", title=None, sort=order)
    tip = [
        "stage:N",
        "jobs:Q",
        alt.Tooltip("seconds:Q", format=",.0f"),
        alt.Tooltip("memory:Q", title="MB", format=",.0f"),
        alt.Tooltip("tokens_per_second:Q", title="training tokens per second", format=",.0f"),
    ]
    charts = []
    for field, title, labels in (("time", f"time, {unit}", True), ("gigabytes", "largest memory of a job, GB", False)):
        x = alt.X(f"{field}:Q", title=None, axis=None)
        base = alt.Chart(table).encode(
            x=x, y=y if labels else alt.Y("stage:N", title=None, sort=order, axis=None), tooltip=tip
        )
        bars = base.mark_bar(height={"band": 0.62}, color=theme.GREY, opacity=0.75)
        text = base.mark_text(align="left", dx=5).encode(text=alt.Text(f"{field}:Q", format=",.1f"))
        charts.append(alt.layer(bars, text).properties(width=225, height=alt.Step(22), title=title))
    return alt.concat(*charts, columns=2, spacing={"row": 30, "column": 60})
