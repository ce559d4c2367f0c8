"""Charts of what moved inside the model, and of what happens where it is undone."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import PERCENT, tuned
from knowshift.weights.regions import LAYERS

Tables = Mapping[str, pd.DataFrame]
DASHES = [[1, 0], [4, 2], [1, 2], [8, 2, 2, 2], [10, 4], [2, 4]]  # of the lines in a panel, the last one first
WHERE = 5.0  # percent restored whose place is drawn, or the nearest to it that was run


def concentration(tables: Tables) -> alt.Chart | None:
    """The share of the summed relative change that the most changed parameters hold; published shares as a faint line."""
    cells = tables["cells"][["model", "run", "method", "data", "facts"]]
    table = tables["concentration"].merge(cells, on=["model", "run"])
    if table.empty:
        return None
    table = table[table["facts"] == table.groupby(["model", "method", "data"])["facts"].transform("max")]
    keys = ["model", "method", "region", "data", "facts", "percent"]
    table = table.groupby(keys, as_index=False, sort=False)["share_without_zeros"].mean()
    table["panel"] = theme.panel_names(table, table["region"])
    table["name"] = [
        theme.kind_name(data) + ("" if method == "full" else f", {method}")
        for data, method in zip(table["data"], table["method"], strict=True)
    ]
    published = tables["published"]
    published = published[published["source"] == "update_concentration"]
    published = published.groupby(["model", "percent"], as_index=False)["value"].mean()
    published = published.merge(table[table["region"] == "transformer"][["panel"]].drop_duplicates(), how="cross")
    published = published.rename(columns={"value": "published", "model": "paper"})
    data = pd.concat([table, published])
    domain = theme.domain_of(table["share_without_zeros"], published["published"])
    end = table["percent"].max()
    ends = theme.place_labels(table[table["percent"] == end], "share_without_zeros", domain)
    data = data.merge(ends[["panel", "name", "percent", "label_at"]], on=["panel", "name", "percent"], how="left")
    percents = sorted(table["percent"].unique())
    x = alt.X("percent:Q", title="most changed parameters, % of the region (log scale)",
              scale=alt.Scale(type="log", nice=False, padding=10), axis=alt.Axis(values=percents, format="~g"))  # fmt: skip
    y = theme.share("share_without_zeros", "share of the summed relative change", domain)
    color = theme.kind_color(table["data"])
    tip = [alt.Tooltip("name:N", title="training data"), alt.Tooltip("facts:Q"), alt.Tooltip("percent:Q", title="top %"),
           alt.Tooltip("share_without_zeros:Q", title="share", format=PERCENT)]  # fmt: skip
    middle = sorted(published["percent"].unique())[len(published["percent"].unique()) // 2] if len(published) else 0
    paper = alt.Chart().transform_filter("isValid(datum.published)")
    mine = alt.Chart().transform_filter("isValid(datum.share_without_zeros)")
    layers = [
        paper.mark_line(color=theme.GREY, opacity=0.55, strokeDash=[2, 3]).encode(x=x, y="published:Q", detail="paper:N"),
        paper.mark_text(align="right", dx=-4, dy=-8, color=theme.GREY, fontSize=11)
        .transform_filter(f"datum.percent == {middle}")
        .encode(x=x, y="published:Q", text=alt.value("published, LLaMA-3-8B")),
        mine.mark_line(point=True).encode(x=x, y=y, color=color, detail="name:N", tooltip=tip),
        mine.transform_filter("isValid(datum.label_at)").mark_text(align="left", dx=10)
        .encode(x=x, y="label_at:Q", text="name:N", color=color),
    ]  # fmt: skip
    if published.empty:
        layers = layers[2:]
    several = table["panel"].nunique() > 1
    chart = alt.layer(*theme.zoomed(layers, domain)).properties(
        width=theme.PANEL if several else theme.WIDE - 60, height=theme.HEIGHT
    )
    return theme.panels(chart, data, sort=list(dict.fromkeys(table["panel"])))


def _swept(tables: Tables) -> pd.DataFrame:
    """Restorations at several shares: not those of whole layers."""
    table = tuned(tables["restorations"]).dropna(subset=["accuracy"])
    return table[~table["region"].str.fullmatch(LAYERS)]


def restored(tables: Tables) -> alt.Chart | None:
    """Accuracy against the share restored: a row of panels per question set, a panel per data kind, a line per size.

    Marks are coloured by what restoring did: gain, loss, or neither; filled where the paired test calls it sure.
    """
    table = _swept(tables)
    if table.empty:
        return None
    table["change"] = "as fine-tuned"
    table.loc[table["gain"] > 0, "change"] = "gain"
    table.loc[table["gain"] < 0, "change"] = "loss"
    table["sure"] = table["p_corrected"].fillna(1) < 0.05
    papers = (table["strategy"] == "top") & (table["region"] == "transformer")
    table["line"] = table["size"].map("{:,.0f} facts".format)
    table.loc[~papers, "line"] = table["line"] + ", " + table["strategy"] + " " + table["region"]
    table.loc[table["method"] != "full", "line"] = table["line"] + ", " + table["method"]
    kinds = [kind for kind in theme.KINDS if kind in set(table["data"])]
    table["kind"] = table["data"].map(theme.kind_name)
    shares = sorted(table["percent"].unique())
    table["share"] = table["percent"].map("{:g}".format)
    order = [f"{value:g}" for value in shares]
    published = _published_restored(tables, table)
    start = tables["scores"][tables["scores"]["method"] == "pre-trained"][["model", "set", "accuracy"]]
    rows = []
    width = {1: theme.WIDE, 2: theme.PANEL, 3: 186}.get(len(kinds), max(78, 640 // len(kinds) - 34))
    for panel in dict.fromkeys(table["panel"]):
        part = table[table["panel"] == panel]
        model, name = part[["model", "set"]].iloc[0]
        found = start[(start["model"] == model) & (start["set"] == name)]["accuracy"]
        mine = published[published["panel"] == panel]
        domain = theme.domain_of(part["low"], part["high"], mine["published"], found)
        keep = ["kind", "line", "share", "accuracy", "low", "high", "gain", "gain_low", "gain_high", "p_corrected",
                "change", "sure", "seeds"]  # fmt: skip
        data = pd.concat([part[keep], mine[["kind", "share", "size", "published"]]])
        chart = _sweep(data, domain, order, found, len(kinds)).properties(width=width, height=150)
        shown = [theme.kind_name(kind) for kind in kinds]
        facet = alt.Facet("kind:N", title=None, sort=shown, header=alt.Header(labelPadding=6, labelFontWeight="normal"))
        wrapped = chart.facet(
            facet, columns=len(kinds), data=data, spacing={"row": 30, "column": 34 if len(kinds) > 2 else 84}
        )
        rows.append(wrapped.properties(title=panel))
    return alt.concat(*rows, columns=1, spacing=34).resolve_scale(color="shared", strokeDash="shared")


def _sweep(data: pd.DataFrame, domain: list[float], order: list[str], start: pd.Series, kinds: int) -> alt.LayerChart:
    x = alt.X(
        "share:O", title="% restored", sort=order, axis=alt.Axis(labelAngle=0, labelFontSize=11 if kinds < 4 else 9)
    )
    y = theme.share("accuracy", None, domain)
    changes, colors = ["gain", "loss", "as fine-tuned"], [theme.GAIN, theme.LOSS, theme.GREY]
    color = alt.Color("change:N", title=None, scale=alt.Scale(domain=changes, range=colors))
    tip = [
        alt.Tooltip("line:N", title="training set"), alt.Tooltip("share:N", title="% restored"),
        alt.Tooltip("accuracy:Q", format=PERCENT), alt.Tooltip("gain:Q", format="+.1%"),
        alt.Tooltip("gain_low:Q", title="from", format="+.1%"), alt.Tooltip("gain_high:Q", title="to", format="+.1%"),
        alt.Tooltip("p_corrected:Q", title="p, corrected", format=".3f"), alt.Tooltip("seeds:Q"),
    ]  # fmt: skip
    lines = sorted(data["line"].dropna().unique(), key=lambda line: (len(line), line))
    dash = alt.StrokeDash("line:N", title=None, scale=alt.Scale(domain=lines, range=DASHES[: len(lines)][::-1]),
                          legend=alt.Legend() if len(lines) > 1 else None)  # fmt: skip
    base = alt.Chart().transform_filter("isValid(datum.accuracy)")
    layers = [
        base.mark_area(opacity=0.09, color=theme.TEXT).encode(x=x, y="low:Q", y2="high:Q", detail="line:N"),
        base.mark_line(strokeWidth=1.3, color=theme.TEXT, opacity=0.65).encode(x=x, y=y, strokeDash=dash),
        *[
            base.transform_filter(f"datum.sure == {sure}")
            .mark_point(filled=sure == "true", size=40 if kinds < 4 else 26, strokeWidth=1.6, opacity=1)
            .encode(x=x, y=y, color=color, tooltip=tip)
            for sure in ("true", "false")
        ],
    ]  # fmt: skip
    if start.notna().any():
        rule = alt.Chart().transform_calculate(start=str(float(start.iloc[0])))
        layers.insert(0, rule.mark_rule(strokeDash=theme.DASH, color=theme.GREY).encode(y="mean(start):Q"))
    if "published" in data and data["published"].notna().any():
        layers.append(
            alt.Chart().transform_filter("isValid(datum.published)")
            .mark_point(shape="diamond", filled=False, color=theme.GREY, size=44)
            .encode(x=x, y="published:Q", tooltip=["size:Q", alt.Tooltip("published:Q", format=PERCENT)])
        )  # fmt: skip
    return alt.layer(*theme.zoomed(layers, domain))


def _published_restored(tables: Tables, table: pd.DataFrame) -> pd.DataFrame:
    """Published accuracies of this run's models at shares, kinds and sizes that were restored here too."""
    rows = tables["published"]
    rows = rows[(rows["source"] == "restored_accuracy") & rows["of"].notna()].drop(columns="model")
    rows = rows.rename(columns={"of": "model", "value": "published"})
    keys = ["model", "data", "size", "set", "percent"]
    mine = table[[*keys, "panel", "kind", "share"]].drop_duplicates()
    return rows[[*keys, "published"]].astype({"size": "Int64"}).merge(mine.astype({"size": "Int64"}), on=keys)


def restored_where(tables: Tables) -> alt.Chart | None:
    """Where the restored parameters lie, by layer and by module, beside where the region's parameters lie."""
    charts = []
    for name, draw in {"restored_layers": _layers, "restored_modules": _modules}.items():
        table = tables[name]
        table = table[table["data"].notna() & (table["strategy"] == "top") & (table["region"] == "transformer")].copy()
        table = table[table["method"] == ("full" if (table["method"] == "full").any() else table["method"].max())]
        for model in dict.fromkeys(table["model"]):
            rows = table[table["model"] == model]
            percent = min(rows["percent"].unique(), key=lambda value: (abs(value - WHERE), value))
            rows = rows[rows["percent"] == percent]
            rows = rows[rows["size"] == rows.groupby("data")["size"].transform("max")]
            heading = (f"{model}, " if table["model"].nunique() > 1 else "") + f"top {percent:g} %"
            charts.append(draw(rows.assign(name=rows["data"].map(theme.kind_name)), tables["published"], heading))
    if not charts:
        return None
    half = len(charts) // 2  # layers of every model, then modules of every model: beside each other
    beside = [chart for pair in zip(charts[:half], charts[half:], strict=True) for chart in pair]
    return alt.concat(*beside, columns=2, spacing={"row": 40, "column": 60})


def _layers(rows: pd.DataFrame, published: pd.DataFrame, heading: str) -> alt.LayerChart:
    even = rows.groupby("layer", as_index=False)["share_of_parameters"].mean()
    paper = published[(published["source"] == "restored_share_by_layer") & (published["of"] == rows["model"].iloc[0])]
    paper = paper.assign(layer=paper["layers"].astype("Int64"))[["layer", "value"]].rename(
        columns={"value": "published"}
    )
    domain = theme.domain_of(rows["share"], even["share_of_parameters"], paper["published"])
    last = rows[rows["layer"] == rows["layer"].max()]
    ends = theme.place_labels(last.assign(panel=""), "share", domain, 190)
    rows = rows.merge(ends[["name", "layer", "label_at"]], on=["name", "layer"], how="left")
    data = pd.concat([rows[["layer", "name", "data", "size", "share", "label_at"]], even, paper])
    every = max(1, (int(rows["layer"].max()) + 1) // 8)
    ticks = list(range(0, int(rows["layer"].max()) + 1, every))
    x = alt.X("layer:Q", title="layer", axis=alt.Axis(format="d", values=ticks), scale=alt.Scale(nice=False))
    color = theme.kind_color(rows["data"])
    base = alt.Chart().transform_filter("isValid(datum.share)")
    tip = ["name:N", "layer:Q", alt.Tooltip("share:Q", format=".2%")]
    layers = [
        alt.Chart().transform_filter("isValid(datum.share_of_parameters)")
        .mark_line(strokeDash=theme.DASH, color=theme.GREY, strokeWidth=1.3).encode(x=x, y="share_of_parameters:Q"),
        base.mark_line(strokeWidth=1.6).encode(
            x=x, y=theme.share("share", None, domain), color=color, tooltip=tip
        ),
        base.transform_filter("isValid(datum.label_at)").mark_text(align="left", dx=6)
        .encode(x=x, y="label_at:Q", text="name:N", color=color),
    ]  # fmt: skip
    if len(paper):
        layers.append(
            alt.Chart().transform_filter("isValid(datum.published)")
            .mark_point(shape="diamond", filled=False, color=theme.GREY, opacity=0.7).encode(x=x, y="published:Q")
        )  # fmt: skip
    layers = theme.zoomed(layers, domain)
    return alt.layer(*layers, data=data).properties(width=225, height=190, title=f"{heading}, by layer")


def _modules(rows: pd.DataFrame, published: pd.DataFrame, heading: str) -> alt.LayerChart:
    even = rows.groupby("module", as_index=False)["share_of_parameters"].mean()
    order = list(rows.groupby("module")["share"].mean().sort_values(ascending=False).index)
    paper = published[(published["source"] == "restored_share_by_module") & published["module"].isin(order)]
    paper = paper.groupby("module", as_index=False)["value"].mean().rename(columns={"value": "published"})
    data = pd.concat([rows[["module", "name", "data", "size", "share"]], even, paper])
    x = alt.X("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4, grid=True),
              scale=alt.Scale(domainMin=0))  # fmt: skip
    y = alt.Y("module:N", title=None, sort=order)
    tip = ["name:N", "module:N", alt.Tooltip("share:Q", format=".1%")]
    mine = alt.Chart().transform_filter("isValid(datum.share)")
    layers = [
        alt.Chart().transform_filter("isValid(datum.share_of_parameters)")
        .mark_tick(color=theme.GREY, thickness=2, height=18).encode(x="share_of_parameters:Q", y=y,
            tooltip=["module:N", alt.Tooltip("share_of_parameters:Q", title="of all parameters", format=".1%")]),
        mine.mark_point(opacity=0.85).encode(x=x, y=y, color=theme.kind_color(rows["data"]), tooltip=tip),
    ]  # fmt: skip
    if len(paper):
        layers.append(
            alt.Chart().transform_filter("isValid(datum.published)")
            .mark_point(shape="diamond", filled=False, color=theme.GREY, opacity=0.6)
            .encode(x="published:Q", y=y, tooltip=["module:N", alt.Tooltip("published:Q", format=".1%")])
        )  # fmt: skip
    return alt.layer(*layers, data=data).properties(width=190, height=190, title="by module")


def restored_blocks(tables: Tables) -> alt.Chart | None:
    """Accuracy with whole blocks of layers put back, a line per data kind; thin dashes the models with none put back."""
    table = tuned(tables["restorations"]).dropna(subset=["accuracy"])
    table = table[table["region"].str.fullmatch(LAYERS) & (table["percent"] == 100)]
    if table.empty:
        return None
    table = table[table["size"] == table.groupby(["model", "data"])["size"].transform("max")].copy()
    table["first"] = table["region"].str.extract(r"^(\d+)").astype(int)
    order = list(dict.fromkeys(table.sort_values("first")["region"]))
    rows = tables["published"]
    rows = rows[(rows["source"] == "restored_layer_blocks") & rows["of"].notna()].drop(columns="model")
    rows = rows.rename(columns={"of": "model", "value": "published", "layers": "region"})
    paper = rows[["model", "data", "region", "published"]].merge(
        table[table["set"] == "test"][["model", "data", "region", "panel"]].drop_duplicates(),
        on=["model", "data", "region"],
    )
    table["size"] = table["size"].astype(int)
    domain = theme.domain_of(table["low"], table["high"], table["unrestored"], paper["published"])
    shown = [
        "panel",
        "data",
        "name",
        "size",
        "region",
        "accuracy",
        "low",
        "high",
        "unrestored",
        "gain",
        "p_corrected",
        "seeds",
    ]
    data = pd.concat([table[shown], paper[["panel", "data", "region", "published"]]])
    x = alt.X(
        "region:O",
        title="layers put back",
        sort=order,
        axis=alt.Axis(labelAngle=0, labelFontSize=11 if len(order) < 6 else 9),
    )
    color = theme.kind_color(table["data"], legend=True)
    tip = [alt.Tooltip("name:N", title="training data"), alt.Tooltip("size:Q", title="facts"),
           alt.Tooltip("region:N", title="layers"), alt.Tooltip("accuracy:Q", format=PERCENT),
           alt.Tooltip("gain:Q", format="+.1%"), alt.Tooltip("p_corrected:Q", title="p, corrected", format=".3f")]  # fmt: skip
    base = alt.Chart().transform_filter("isValid(datum.accuracy)")
    layers = [
        base.mark_line(strokeDash=theme.DASH, opacity=0.6, strokeWidth=1.2).encode(
            x=x, y="unrestored:Q", color=color, detail=["name:N", "size:N"]
        ),
        base.mark_rule(opacity=0.35, strokeWidth=2).encode(x=x, y="low:Q", y2="high:Q", color=color),
        base.mark_line(point=True).encode(
            x=x, y=theme.share("accuracy", "accuracy, mean of five levels", domain), color=color,
            detail=["name:N", "size:N"], tooltip=tip,
        ),
    ]  # fmt: skip
    if len(paper):
        layers.append(
            alt.Chart().transform_filter("isValid(datum.published)")
            .mark_point(shape="diamond", filled=False, size=60)
            .encode(x=x, y="published:Q", color=color)
        )  # fmt: skip
    chart = alt.layer(*theme.zoomed(layers, domain)).properties(width=theme.PANEL, height=theme.HEIGHT)
    return theme.panels(chart, data, sort=list(dict.fromkeys(table["panel"])))
