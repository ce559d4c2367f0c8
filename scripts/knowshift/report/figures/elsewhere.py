"""The chart of models that were fine-tuned elsewhere: what restoring gives back, and what it takes."""

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import PERCENT
from knowshift.report.frames import Frames

# Columns of the table `fates`, their names in the chart, and their colours.
LINES = {
    "kept_share": ("kept, of what the base answers", theme.FATE_COLORS["kept"]),
    "learned_share": ("answered, of what it does not", theme.FATE_COLORS["learned"]),
    "after": ("answered, of all", theme.GREY),
}
MOST_SWEEPS = 5  # strategies and regions, which differ in their dashes; of more, only some are drawn


def fates(frames: Frames) -> theme.Drawing | None:
    """Draw the shares of facts that are kept and learned over the share of parameters restored, a panel per model."""
    table = frames["fates"]
    table = table[table["topic"].isna() & (table["set"] == "test")]
    if table.empty:
        return None
    table = table.assign(panel=theme.panel_names(table, table["data"]))
    restored = table.dropna(subset=["percent"])
    restored = restored.assign(sweep=restored["strategy"] + " " + restored["region"])
    plain = table[table["percent"].isna()].drop(columns=["strategy", "region", "percent"]).assign(percent=0.0)
    shown = restored.loc[(restored["strategy"] == "top") | restored["chosen"], "sweep"]
    if restored["sweep"].nunique() > MOST_SWEEPS and len(shown):
        restored = restored[restored["sweep"].isin(shown)]  # `task_trade` has the others
    sweeps = restored[["panel", "sweep"]].drop_duplicates()
    alone = plain[~plain["panel"].isin(sweeps["panel"])].assign(sweep="")
    table = pd.concat([plain.merge(sweeps, on="panel"), alone, restored])
    parts = []
    for column, (name, _) in LINES.items():
        ends = {"value": table[column], "low": table[f"{column}_low"], "high": table[f"{column}_high"]}
        parts.append(table[["panel", "sweep", "percent", "chosen", "facts"]].assign(line=name, **ends))
    data = pd.concat(parts).dropna(subset=["value"])
    order = [f"{share:g}" for share in sorted(data["percent"].unique())]
    data = data.assign(share=data["percent"].map("{:g}".format))
    domain = theme.axis_domain(data["low"], data["high"])
    x = alt.X("share:O", title="% restored", sort=order, axis=alt.Axis(labelAngle=0))
    names, colors = zip(*LINES.values(), strict=True)
    color = alt.Color("line:N", title=None, scale=alt.Scale(domain=list(names), range=list(colors)))
    several = data["sweep"].nunique() > 1
    dash = {"strokeDash": alt.StrokeDash("sweep:N", title=None)} if several else {}
    tip = [
        alt.Tooltip("line:N", title="facts"),
        alt.Tooltip("sweep:N", title="restored"),
        alt.Tooltip("share:N", title="% restored"),
        alt.Tooltip("value:Q", format=PERCENT),
        alt.Tooltip("low:Q", title="from", format=PERCENT),
        alt.Tooltip("high:Q", title="to", format=PERCENT),
    ]
    base = alt.Chart()
    y = theme.share("value", "share of in-domain test facts", domain)
    layers = [
        base.mark_rule(opacity=0.35, strokeWidth=2).encode(x=x, y="low:Q", y2="high:Q", color=color),
        base.mark_line(strokeWidth=1.5).encode(x=x, y=y, color=color, detail="sweep:N", **dash),
        base.mark_point().encode(x=x, y=y, color=color, tooltip=tip),
        base.transform_filter("datum.chosen")
        .mark_point(shape="circle", filled=False, size=150)
        .encode(x=x, y=y, color=color),
    ]
    panels = data["panel"].nunique()
    chart = alt.layer(*theme.zoomed(layers, domain))
    chart = chart.properties(width=theme.WIDE if panels < 2 else theme.PANEL, height=theme.HEIGHT)
    return theme.panels(chart, data)
