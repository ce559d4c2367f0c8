"""Charts of what moved inside the model: how concentrated the change is, and where the most changed parameters lie."""

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import PERCENT
from knowshift.report.frames import TUNED, Frames

WHERE = 5.0  # `restored_where` shows the restored share nearest to this, in percent


# What the most changed parameters hold a share of: column of the table, column of its null line, and heading.
HELD = (
    ("share_without_zeros", "null_share", "of the summed relative change"),
    ("share_of_absolute", "null_share_of_absolute", "of the summed absolute change"),
    ("share_of_squares", "null_share_of_squares", "of the summed squared change"),
)


def concentration(frames: Frames) -> theme.Drawing | None:
    """Draw the shares of the change that the most changed parameters hold, and their null lines, dashed.

    A panel each for relative, absolute and squared changes. Parameters that were exactly 0 before training are left
    out. Shown are the largest runs, mean over seeds, and models that were fine-tuned elsewhere; published shares of
    LLaMA-3-8B are a faint line, dotted.
    """
    cells = frames["cells"][["model", "run", "method", "data", "facts"]]
    table = frames["concentration"].merge(cells, on=["model", "run"])
    table = table[
        table["region"] == ("transformer" if (table["region"] == "transformer").any() else table["region"].min())
    ]
    if table.empty:
        return None
    table = _largest(table, "facts", ["model", "method", "data"])
    published = frames["published"]
    published = (
        published[published["source"] == "update_concentration"].groupby("percent", as_index=False)["value"].mean()
    )
    long = pd.concat(
        [table.assign(panel=heading, share=table[column], null=table[null]) for column, null, heading in HELD]
    )
    keys = ["model", "method", "data", "facts", "panel", "percent"]
    long = long.groupby(keys, as_index=False, sort=False, dropna=False)[["share", "null"]].mean()
    long["name"] = [
        theme.kind_name(data) + ("" if method in ("full", TUNED) else f", {method}")
        for data, method in zip(long["data"], long["method"], strict=True)
    ]
    if long["model"].nunique() > 1:
        long["name"] = long["model"] + ", " + long["name"]
    long["above"] = 100 * (long["share"] - long["null"])
    published = published.assign(published=published["value"], panel=HELD[0][2])
    x = alt.X(
        "percent:Q",
        title="most changed parameters, %",
        scale=alt.Scale(type="log", nice=False, padding=10),
        axis=alt.Axis(values=sorted(table["percent"].unique()), format="~g"),
    )
    color = theme.kind_color(table["data"], legend=bool((table["method"] == TUNED).any()))
    tip = [
        alt.Tooltip("name:N", title="training data"),
        alt.Tooltip("facts:Q"),
        alt.Tooltip("percent:Q", title="top %"),
        alt.Tooltip("share:Q", title="share", format=PERCENT),
        alt.Tooltip("null:Q", title="null line", format=PERCENT),
        alt.Tooltip("above:Q", title="above it, points", format="+.1f"),
    ]
    mine = alt.Chart().transform_filter("isValid(datum.share)")
    paper = alt.Chart().transform_filter("isValid(datum.published)")
    layers = [
        paper.mark_line(color=theme.GREY, opacity=0.55, strokeDash=[2, 3]).encode(x=x, y="published:Q"),
        mine.mark_line(strokeDash=theme.DASH, strokeWidth=1.6).encode(
            x=x, y=theme.share("null", None, [0, 1]), color=color, detail="name:N", tooltip=tip
        ),
        mine.mark_line(point=True, strokeWidth=1.2).encode(
            x=x, y=theme.share("share", "share held", [0, 1]), color=color, detail="name:N", tooltip=tip
        ),
    ]
    if published.empty:
        layers = layers[1:]
    chart = alt.layer(*layers).properties(width=theme.PANEL, height=theme.HEIGHT)
    return theme.panels(chart, pd.concat([long, published]), sort=[heading for _, _, heading in HELD])


def restored_where(frames: Frames) -> theme.Drawing | None:
    """Draw how the restored parameters spread over layers and over modules, beside all parameters of the region."""
    charts = []
    for name, draw in {"restored_layers": _layers, "restored_modules": _modules}.items():
        table = frames[name]
        table = table[table["data"].notna() & (table["strategy"] == "top") & (table["region"] == "transformer")].copy()
        here = table.loc[table["method"] != TUNED, "method"]
        shown = "full" if (here == "full").any() else here.max()
        table = table[table["method"].isin([shown, TUNED])]
        for model in dict.fromkeys(table["model"]):
            rows = table[table["model"] == model]
            percent = min(rows["percent"].unique(), key=lambda value: (abs(value - WHERE), value))
            rows = rows[rows["percent"] == percent]
            rows = _largest(rows, "size", ["data"])
            heading = (f"{model}, " if table["model"].nunique() > 1 else "") + f"top {percent:g} %"
            charts.append(draw(rows.assign(name=rows["data"].map(theme.kind_name)), frames["published"], heading))
    if not charts:
        return None
    half = len(charts) // 2  # layers of every model, then modules of every model: beside each other
    beside = [chart for pair in zip(charts[:half], charts[half:], strict=True) for chart in pair]
    return alt.concat(*beside, columns=2, spacing={"row": 40, "column": 60})


def _largest(table: pd.DataFrame, size: str, keys: list[str]) -> pd.DataFrame:
    """Keep the largest runs of each kind, and models that were fine-tuned elsewhere, which have no size."""
    return table[table[size].isna() | (table[size] == table.groupby(keys)[size].transform("max"))]


def _layers(rows: pd.DataFrame, published: pd.DataFrame, heading: str) -> alt.LayerChart | alt.FacetChart:
    """Draw the share of restored parameters that lies in each layer, a line per data kind.

    Args:
        rows: of one model at one share restored.
        published: the paper's numbers; those of this model are drawn as diamonds.
    """
    even = rows.groupby("layer", as_index=False)["share_of_parameters"].mean()
    paper = published[(published["source"] == "restored_share_by_layer") & (published["of"] == rows["model"].iloc[0])]
    paper = paper.assign(layer=paper["layers"].astype("Int64"))[["layer", "value"]].rename(
        columns={"value": "published"}
    )
    domain = theme.axis_domain(rows["share"], even["share_of_parameters"], paper["published"])
    last = rows[rows["layer"] == rows["layer"].max()]
    ends = theme.spread_labels(last.assign(panel=""), "share", domain, 190)
    rows = rows.merge(ends[["name", "layer", "label_at"]], on=["name", "layer"], how="left")
    data = pd.concat([rows[["layer", "name", "data", "size", "share", "label_at"]], even, paper])
    every = max(1, (int(rows["layer"].max()) + 1) // 8)
    ticks = list(range(0, int(rows["layer"].max()) + 1, every))
    x = alt.X("layer:Q", title="layer", axis=alt.Axis(format="d", values=ticks), scale=alt.Scale(nice=False))
    color = theme.kind_color(rows["data"])
    base = alt.Chart().transform_filter("isValid(datum.share)")
    tip = ["name:N", "layer:Q", alt.Tooltip("share:Q", format=".2%")]
    layers = [
        alt.Chart()
        .transform_filter("isValid(datum.share_of_parameters)")
        .mark_line(strokeDash=theme.DASH, color=theme.GREY, strokeWidth=1.3)
        .encode(x=x, y="share_of_parameters:Q"),
        base.mark_line(strokeWidth=1.6).encode(x=x, y=theme.share("share", None, domain), color=color, tooltip=tip),
        base.transform_filter("isValid(datum.label_at)")
        .mark_text(align="left", dx=6)
        .encode(x=x, y="label_at:Q", text="name:N", color=color),
    ]
    if len(paper):
        layers.append(
            alt.Chart()
            .transform_filter("isValid(datum.published)")
            .mark_point(shape="diamond", filled=False, color=theme.GREY, opacity=0.7)
            .encode(x=x, y="published:Q")
        )
    layers = theme.zoomed(layers, domain)
    return alt.layer(*layers, data=data).properties(width=225, height=190, title=f"{heading}, by layer")


def _modules(rows: pd.DataFrame, published: pd.DataFrame, _heading: str) -> alt.LayerChart | alt.FacetChart:
    """Draw the share of restored parameters that lies in each kind of module, a mark per data kind; see `_layers`."""
    even = rows.groupby("module", as_index=False)["share_of_parameters"].mean()
    order = list(rows.groupby("module")["share"].mean().sort_values(ascending=False).index)
    paper = published[(published["source"] == "restored_share_by_module") & published["module"].isin(order)]
    paper = paper.groupby("module", as_index=False)[["value"]].mean().rename(columns={"value": "published"})
    data = pd.concat([rows[["module", "name", "data", "size", "share"]], even, paper])
    x = alt.X("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4, grid=True), scale=alt.Scale(domainMin=0))
    y = alt.Y("module:N", title=None, sort=order)
    tip = ["name:N", "module:N", alt.Tooltip("share:Q", format=".1%")]
    mine = alt.Chart().transform_filter("isValid(datum.share)")
    layers = [
        alt.Chart()
        .transform_filter("isValid(datum.share_of_parameters)")
        .mark_tick(color=theme.GREY, thickness=2, height=18)
        .encode(
            x="share_of_parameters:Q",
            y=y,
            tooltip=["module:N", alt.Tooltip("share_of_parameters:Q", title="of all parameters", format=".1%")],
        ),
        mine.mark_point(opacity=0.85).encode(x=x, y=y, color=theme.kind_color(rows["data"]), tooltip=tip),
    ]
    if len(paper):
        layers.append(
            alt.Chart()
            .transform_filter("isValid(datum.published)")
            .mark_point(shape="diamond", filled=False, color=theme.GREY, opacity=0.6)
            .encode(x="published:Q", y=y, tooltip=["module:N", alt.Tooltip("published:Q", format=".1%")])
        )
    return alt.layer(*layers, data=data).properties(width=190, height=190, title="by module")
