"""Charts that compare ways to undo a part of an update."""

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import PERCENT, tuned
from knowshift.report.frames import Frames

# Colour and shape of a way, so that it is told by either. Ways to train otherwise are black.
MARKS = {
    "top": ("#0b6fb0", "circle"),
    "bottom": ("#7a7a7a", "triangle-down"),
    "absolute": ("#4f93bd", "square"),
    "smallest": ("#c8501c", "triangle-up"),
    "random": ("#7a7a7a", "cross"),
    "sign_agreeing": ("#6a55b0", "diamond"),
    "last_layers": ("#a07c22", "triangle-right"),
    "first_layers": ("#a07c22", "triangle-left"),
    "interpolate": ("#2f8578", "circle"),
    "drop_rescale": ("#b5327f", "square"),
    "low_rank": ("#b8735a", "diamond"),
    "stop_at": ("#111111", "circle"),
    "l2_sp": ("#111111", "square"),
    "replay": ("#111111", "diamond"),
    "lora": ("#111111", "triangle-up"),
}
ANY_OTHER = ("#111111", "cross")
MOST_PANELS = 12  # of a model with more, only the largest size of each data kind is shown


def undoing(frames: Frames) -> theme.Drawing | None:
    """Draw the known facts that are answered over the taught facts that are still answered, a line per way.

    Each line leads from the fine-tuned model to the one whose region is that of the base, or to models that were
    trained otherwise. The thick line is the frontier: what no other model beats in both.
    """
    table = tuned(frames["undoing"]).dropna(subset=["taught", "knowledge"])
    if table.empty:
        return None
    cells = ["model", "method", "data", "size", "region", "set"]
    if len(table.drop_duplicates(cells)) > MOST_PANELS:
        table = table[table["size"] == table.groupby(["model", "method", "data"])["size"].transform("max")].copy()
    sizes = table["size"].map("{:,.0f} facts".format)
    table["panel"] = [
        ", ".join(part for part in parts if part)
        for parts in zip(table["panel"], table["name"], sizes, _regions(table), strict=True)
    ]
    table["way"] = table["strategy"]
    marks = {**MARKS, **{name: ANY_OTHER for name in table["way"].unique() if name not in MARKS}}
    ways = [name for name in marks if name in set(table["way"])]
    table["shown"] = [
        variant if isinstance(variant, str) else f"{share:g} % undone"
        for variant, share in zip(table["variant"], table["percent"], strict=True)
    ]
    table["place"] = table.groupby([*cells, "way"]).cumcount()
    x_domain, y_domain = (theme.axis_domain(table[f"{name}_low"], table[f"{name}_high"], table[name]) for name in
                          ("taught", "knowledge"))  # fmt: skip
    keep = ["panel", "way", "shown", "place", "taught", "taught_low", "taught_high", "knowledge", "knowledge_low"]
    data = table[[*keep, "knowledge_high", "kept", "regained", "frontier", "known", "seeds"]]
    x = alt.X(
        "taught:Q",
        title="taught facts still answered",
        scale=alt.Scale(domain=x_domain, nice=False),
        axis=alt.Axis(format="%", tickCount=5),
    )
    y = theme.share("knowledge", "known facts answered", y_domain)
    scale = alt.Scale(domain=ways, range=[marks[name][0] for name in ways])
    color = alt.Color("way:N", title=None, scale=scale, legend=alt.Legend(columns=4))
    shape = alt.Shape("way:N", title=None, scale=alt.Scale(domain=ways, range=[marks[name][1] for name in ways]))
    tip = [
        alt.Tooltip("way:N"),
        alt.Tooltip("shown:N", title="model"),
        *(alt.Tooltip(f"{name}:Q", format=PERCENT) for name in ("taught", "knowledge", "kept", "regained")),
        alt.Tooltip("knowledge_low:Q", title="from", format=PERCENT),
        alt.Tooltip("knowledge_high:Q", title="to", format=PERCENT),
        alt.Tooltip("known:Q", title="known facts"),
        alt.Tooltip("seeds:Q"),
    ]
    order = alt.Order("place:Q")
    layers = [
        alt.Chart()
        .transform_filter("datum.frontier")
        .mark_line(strokeWidth=7, color=theme.GREY, opacity=0.25)
        .encode(x=x, y=y, order=alt.Order("taught:Q")),
        alt.Chart().mark_line(strokeWidth=1.3, opacity=0.8).encode(x=x, y=y, color=color, order=order),
        alt.Chart().mark_point(filled=True, size=46, opacity=1).encode(x=x, y=y, color=color, shape=shape, tooltip=tip),
    ]
    chart = alt.layer(*layers).properties(width=theme.PANEL, height=theme.HEIGHT)
    return theme.panels(chart, data, between=50)


def _regions(table: pd.DataFrame) -> list[str]:
    """The region of each row, or nothing if all rows have one."""
    several = table["region"].nunique() > 1
    return [region if several else "" for region in table["region"]]
