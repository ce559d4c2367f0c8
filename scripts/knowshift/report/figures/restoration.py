"""Charts of accuracy with parameters restored to their values before fine-tuning."""

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import PERCENT, reference, tuned
from knowshift.report.frames import SIGNIFICANT, Frames
from knowshift.weights.regions import LAYERS

LINE_DASHES = [[1, 0], [4, 2], [1, 2], [8, 2, 2, 2], [10, 4], [2, 4]]  # the last line of a panel is solid
# Dashes of what answers without fine-tuning here, by the names of `lines.REFERENCE_NAMES`; the rest has the usual ones.
BASELINE_DASHES = {"few-shot": [8, 4], "most frequent": [1, 3], "chat model": [8, 3, 2, 3]}


def restored(frames: Frames) -> theme.Drawing | None:
    """Draw accuracy over the share of parameters restored.

    There is a row of panels per set of questions, a panel per data kind, and a line per number of training facts. The
    colour of a mark says whether restoring gained or lost; the mark is filled if the difference is significant.
    """
    table = tuned(frames["restorations"]).dropna(subset=["accuracy"])
    table = table[~table["region"].str.fullmatch(LAYERS)]
    if table.empty:
        return None
    table["change"] = "as fine-tuned"
    table.loc[table["gain"] > 0, "change"] = "gain"
    table.loc[table["gain"] < 0, "change"] = "loss"
    table["sure"] = table["p_corrected"].fillna(1) < SIGNIFICANT
    papers = (table["strategy"] == "top") & (table["region"] == "transformer")
    table["line"] = table["size"].map("{:,.0f} facts".format)
    table.loc[~papers, "line"] = table["line"] + ", " + table["strategy"] + " " + table["region"]
    table.loc[table["method"] != "full", "line"] = table["line"] + ", " + table["method"]
    if table["line"].nunique() > len(LINE_DASHES) and papers.any():
        table = table[papers].copy()  # `undoing` compares the others
    kinds = [kind for kind in theme.KINDS if kind in set(table["data"])]
    table["kind"] = table["data"].map(theme.kind_name)
    shares = sorted(table["percent"].unique())
    table["share"] = table["percent"].map("{:g}".format)
    order = [f"{value:g}" for value in shares]
    published = _published_restored(frames, table)
    start = reference(frames["scores"], table, "accuracy")
    rows = []
    width = {1: theme.WIDE, 2: theme.PANEL, 3: 186}.get(len(kinds), max(78, 640 // len(kinds) - 34))
    for panel in dict.fromkeys(table["panel"]):
        part = table[table["panel"] == panel]
        found = start[start["panel"] == panel].set_index("name")["reference"]
        mine = published[published["panel"] == panel]
        domain = theme.axis_domain(part["low"], part["high"], mine["published"], found)
        keep = [
            "kind",
            "line",
            "share",
            "accuracy",
            "low",
            "high",
            "gain",
            "gain_low",
            "gain_high",
            "p_corrected",
            "change",
            "sure",
            "seeds",
        ]
        data = pd.concat([part[keep], mine[["kind", "share", "size", "published"]]])
        chart = _sweep(data, domain, order, found, len(kinds)).properties(width=width, height=150)
        shown = [theme.kind_name(kind) for kind in kinds]
        facet = alt.Facet("kind:N", title=None, sort=shown, header=alt.Header(labelPadding=6, labelFontWeight="normal"))
        wrapped = chart.facet(
            facet, columns=len(kinds), data=data, spacing={"row": 30, "column": 34 if len(kinds) > 2 else 84}
        )
        rows.append(wrapped.properties(title=panel))
    return alt.concat(*rows, columns=1, spacing=34).resolve_scale(color="shared", strokeDash="shared")


def restored_blocks(frames: Frames) -> theme.Drawing | None:
    """Draw accuracy with blocks of layers restored, a line per data kind; thin dashes are models with none restored."""
    table = tuned(frames["restorations"]).dropna(subset=["accuracy"])
    table = table[table["region"].str.fullmatch(LAYERS) & (table["percent"] == 100)]
    if table.empty:
        return None
    table = table[table["size"] == table.groupby(["model", "data"])["size"].transform("max")].copy()
    table["first"] = table["region"].str.extract(r"^(\d+)").astype(int)
    order = list(dict.fromkeys(table.sort_values("first")["region"]))
    rows = frames["published"]
    rows = rows[(rows["source"] == "restored_layer_blocks") & rows["of"].notna()].drop(columns="model")
    rows = rows.rename(columns={"of": "model", "value": "published", "layers": "region"})
    paper = rows[["model", "data", "region", "published"]].merge(
        table[table["set"] == "test"][["model", "data", "region", "panel"]].drop_duplicates(),
        on=["model", "data", "region"],
    )
    table["size"] = table["size"].astype(int)
    domain = theme.axis_domain(table["low"], table["high"], table["unrestored"], paper["published"])
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
    tip = [
        alt.Tooltip("name:N", title="training data"),
        alt.Tooltip("size:Q", title="facts"),
        alt.Tooltip("region:N", title="layers"),
        alt.Tooltip("accuracy:Q", format=PERCENT),
        alt.Tooltip("gain:Q", format="+.1%"),
        alt.Tooltip("p_corrected:Q", title="p, corrected", format=".3f"),
    ]
    base = alt.Chart().transform_filter("isValid(datum.accuracy)")
    layers = [
        base.mark_line(strokeDash=theme.DASH, opacity=0.6, strokeWidth=1.2).encode(
            x=x, y="unrestored:Q", color=color, detail=["name:N", "size:N"]
        ),
        base.mark_rule(opacity=0.35, strokeWidth=2).encode(x=x, y="low:Q", y2="high:Q", color=color),
        base.mark_line(point=True).encode(
            x=x,
            y=theme.share("accuracy", "accuracy, mean of five levels", domain),
            color=color,
            detail=["name:N", "size:N"],
            tooltip=tip,
        ),
    ]
    if len(paper):
        layers.append(
            alt.Chart()
            .transform_filter("isValid(datum.published)")
            .mark_point(shape="diamond", filled=False, size=60)
            .encode(x=x, y="published:Q", color=color)
        )
    chart = alt.layer(*theme.zoomed(layers, domain)).properties(width=theme.PANEL, height=theme.HEIGHT)
    return theme.panels(chart, data, sort=list(dict.fromkeys(table["panel"])))


def _sweep(data: pd.DataFrame, domain: list[float], order: list[str], start: pd.Series, kinds: int) -> alt.LayerChart:
    """Draw one panel of `restored`, for `facet` to repeat.

    Args:
        data: restorations of all panels of a row, and published accuracies.
        domain: ends of the vertical axis.
        order: shares restored, in percent, as texts.
        start: accuracies of what was not fine-tuned, by its name.
        kinds: number of panels in the row.
    """
    x = alt.X(
        "share:O", title="% restored", sort=order, axis=alt.Axis(labelAngle=0, labelFontSize=11 if kinds < 4 else 9)
    )
    y = theme.share("accuracy", None, domain)
    changes, colors = ["gain", "loss", "as fine-tuned"], [theme.GAIN, theme.LOSS, theme.GREY]
    color = alt.Color("change:N", title=None, scale=alt.Scale(domain=changes, range=colors))
    tip = [
        alt.Tooltip("line:N", title="training set"),
        alt.Tooltip("share:N", title="% restored"),
        alt.Tooltip("accuracy:Q", format=PERCENT),
        alt.Tooltip("gain:Q", format="+.1%"),
        alt.Tooltip("gain_low:Q", title="from", format="+.1%"),
        alt.Tooltip("gain_high:Q", title="to", format="+.1%"),
        alt.Tooltip("p_corrected:Q", title="p, corrected", format=".3f"),
        alt.Tooltip("seeds:Q"),
    ]
    lines = sorted(data["line"].dropna().unique(), key=lambda line: (len(line), line))
    dash = alt.StrokeDash(
        "line:N",
        title=None,
        scale=alt.Scale(domain=lines, range=LINE_DASHES[: len(lines)][::-1]),
        legend=alt.Legend() if len(lines) > 1 else None,
    )
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
    ]
    for name, value in start.items():
        rule = alt.Chart().transform_calculate(start=str(float(value)), of=f"'{name}'")
        rule = rule.mark_rule(strokeDash=BASELINE_DASHES.get(str(name), theme.DASH), color=theme.GREY)
        told = [alt.Tooltip("of:N", title="without fine-tuning"), alt.Tooltip("mean(start):Q", format=PERCENT)]
        layers.insert(0, rule.encode(y="mean(start):Q", tooltip=told))
    if "published" in data and data["published"].notna().any():
        layers.append(
            alt.Chart()
            .transform_filter("isValid(datum.published)")
            .mark_point(shape="diamond", filled=False, color=theme.GREY, size=44)
            .encode(x=x, y="published:Q", tooltip=["size:Q", alt.Tooltip("published:Q", format=PERCENT)])
        )
    return alt.LayerChart(layer=theme.zoomed(layers, domain))


def _published_restored(frames: Frames, table: pd.DataFrame) -> pd.DataFrame:
    """Return published accuracies of this run's models, where this run restored the same share of the same cell."""
    rows = frames["published"]
    rows = rows[(rows["source"] == "restored_accuracy") & rows["of"].notna()].drop(columns="model")
    rows = rows.rename(columns={"of": "model", "value": "published"})
    keys = ["model", "data", "size", "set", "percent"]
    mine = table[[*keys, "panel", "kind", "share"]].drop_duplicates()
    return rows[[*keys, "published"]].astype({"size": "Int64"}).merge(mine.astype({"size": "Int64"}), on=keys)
