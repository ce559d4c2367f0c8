"""Charts of what moved inside the model: how concentrated the change is, and where the most changed parameters lie."""

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import PERCENT
from knowshift.report.frames import Frames

WHERE = 5.0  # `restored_where` shows the restored share nearest to this, in percent


def concentration(frames: Frames) -> theme.Drawing | None:
    """Draw the share of the summed relative change that the most changed parameters hold.

    Parameters that were exactly 0 before training are left out. Published shares of LLaMA-3-8B are a faint line.
    """
    cells = frames["cells"][["model", "run", "method", "data", "facts"]]
    table = frames["concentration"].merge(cells, on=["model", "run"])
    if table.empty:
        return None
    table = table[table["facts"] == table.groupby(["model", "method", "data"])["facts"].transform("max")]
    keys = ["model", "method", "region", "data", "facts", "percent"]
    table = table.groupby(keys, as_index=False, sort=False)[["share_without_zeros"]].mean()
    table["panel"] = theme.panel_names(table, table["region"])
    table["name"] = [
        theme.kind_name(data) + ("" if method == "full" else f", {method}")
        for data, method in zip(table["data"], table["method"], strict=True)
    ]
    published = frames["published"]
    published = published[published["source"] == "update_concentration"]
    published = published.groupby(["model", "percent"], as_index=False)["value"].mean()
    published = published.merge(table[table["region"] == "transformer"][["panel"]].drop_duplicates(), how="cross")
    published = published.rename(columns={"value": "published", "model": "paper"})
    data = pd.concat([table, published])
    domain = theme.axis_domain(table["share_without_zeros"], published["published"])
    end = table["percent"].max()
    ends = theme.spread_labels(table[table["percent"] == end], "share_without_zeros", domain)
    data = data.merge(ends[["panel", "name", "percent", "label_at"]], on=["panel", "name", "percent"], how="left")
    percents = sorted(table["percent"].unique())
    x = alt.X(
        "percent:Q",
        title="most changed parameters, % of the region (log scale)",
        scale=alt.Scale(type="log", nice=False, padding=10),
        axis=alt.Axis(values=percents, format="~g"),
    )
    y = theme.share("share_without_zeros", "share of the summed relative change", domain)
    color = theme.kind_color(table["data"])
    tip = [
        alt.Tooltip("name:N", title="training data"),
        alt.Tooltip("facts:Q"),
        alt.Tooltip("percent:Q", title="top %"),
        alt.Tooltip("share_without_zeros:Q", title="share", format=PERCENT),
    ]
    middle = sorted(published["percent"].unique())[len(published["percent"].unique()) // 2] if len(published) else 0
    paper = alt.Chart().transform_filter("isValid(datum.published)")
    mine = alt.Chart().transform_filter("isValid(datum.share_without_zeros)")
    layers = [
        paper.mark_line(color=theme.GREY, opacity=0.55, strokeDash=[2, 3]).encode(
            x=x, y="published:Q", detail="paper:N"
        ),
        paper.mark_text(align="right", dx=-4, dy=-8, color=theme.GREY, fontSize=11)
        .transform_filter(f"datum.percent == {middle}")
        .encode(x=x, y="published:Q", text=alt.value("published, LLaMA-3-8B")),
        mine.mark_line(point=True).encode(x=x, y=y, color=color, detail="name:N", tooltip=tip),
        mine.transform_filter("isValid(datum.label_at)")
        .mark_text(align="left", dx=10)
        .encode(x=x, y="label_at:Q", text="name:N", color=color),
    ]
    if published.empty:
        layers = layers[2:]
    several = table["panel"].nunique() > 1
    chart = alt.layer(*theme.zoomed(layers, domain)).properties(
        width=theme.PANEL if several else theme.WIDE - 60, height=theme.HEIGHT
    )
    return theme.panels(chart, data, sort=list(dict.fromkeys(table["panel"])))


def restored_where(frames: Frames) -> theme.Drawing | None:
    """Draw how the restored parameters spread over layers and over modules, beside all parameters of the region."""
    charts = []
    for name, draw in {"restored_layers": _layers, "restored_modules": _modules}.items():
        table = frames[name]
        table = table[table["data"].notna() & (table["strategy"] == "top") & (table["region"] == "transformer")].copy()
        table = table[table["method"] == ("full" if (table["method"] == "full").any() else table["method"].max())]
        for model in dict.fromkeys(table["model"]):
            rows = table[table["model"] == model]
            percent = min(rows["percent"].unique(), key=lambda value: (abs(value - WHERE), value))
            rows = rows[rows["percent"] == percent]
            rows = rows[rows["size"] == rows.groupby("data")["size"].transform("max")]
            heading = (f"{model}, " if table["model"].nunique() > 1 else "") + f"top {percent:g} %"
            charts.append(draw(rows.assign(name=rows["data"].map(theme.kind_name)), frames["published"], heading))
    if not charts:
        return None
    half = len(charts) // 2  # layers of every model, then modules of every model: beside each other
    beside = [chart for pair in zip(charts[:half], charts[half:], strict=True) for chart in pair]
    return alt.concat(*beside, columns=2, spacing={"row": 40, "column": 60})


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
