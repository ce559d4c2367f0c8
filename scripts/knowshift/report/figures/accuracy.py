"""Charts of accuracy: by number of training facts, by mastery level, on the training set itself, and by strategy."""

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.figures.lines import (
    INTERVAL,
    PERCENT,
    REFERENCE_NAMES,
    by_model_and_set,
    lines_by_size,
    reference,
    tuned,
)
from knowshift.report.frames import Frames

MAX_CELLS = 14  # of a model with more cells, `training_accuracy` draws only the largest of each data kind
# Names of the strategies, in the order of their rows.
STRATEGY_NAMES = {
    "pre-trained": "pre-trained",
    "few-shot": "pre-trained, few-shot",
    "most frequent object": "most frequent object",
    "instruct": "vendor's chat model",
    "mixed": "mixed data",
    "divided": "divided by level",
    "lora": "LoRA",
    "restored": "restored",
}
# Strategies as resources/published/strategies.csv names them, and as we do.
PUBLISHED_STRATEGIES = {
    "instruct": "instruct",
    "sft_mixed": "mixed",
    "sft_divided": "divided",
    "lora_mixed": "lora",
    "restoration": "restored",
}


def accuracy_by_size(frames: Frames) -> theme.Drawing | None:
    """Draw headline accuracy over the number of training facts, a line per data kind.

    Published values at 1,920 facts are diamonds.
    """
    table = tuned(frames["scores"]).dropna(subset=["accuracy"])
    if table.empty:
        return None
    start = reference(frames["scores"], table, "accuracy")
    shown = _published(frames, table, headline=True)
    domain = theme.axis_domain(table["low"], table["high"], start["reference"], shown["published"])
    data, layers = lines_by_size(table, "accuracy", "low", "high", "accuracy, mean of five levels", domain, start)
    data = pd.concat([data, shown])
    if len(shown):
        layers.append(
            alt.Chart()
            .mark_point(shape="diamond", filled=False, size=70, opacity=0.8)
            .encode(
                x=theme.sizes(table["size"]),
                y="published:Q",
                color=theme.kind_color(table["data"]),
                tooltip=["data:N", alt.Tooltip("published:Q", format=PERCENT)],
            )
        )
    chart = alt.layer(*theme.zoomed(layers, domain)).properties(width=theme.PANEL, height=theme.HEIGHT)
    return theme.panels(chart, data, sort=list(dict.fromkeys(table["panel"])))


def _published(frames: Frames, table: pd.DataFrame, headline: bool) -> pd.DataFrame:
    """Return published accuracies at 1,920 facts of models that this run has, in the panels of `table`.

    Args:
        headline: whether to return the means over levels, or the accuracies on each level.
    """
    rows = frames["published"]
    rows = (
        rows[(rows["source"] == "accuracy_1920") & rows["of"].notna()]
        .drop(columns="model")
        .rename(columns={"of": "model"})
    )
    rows = rows[rows["level"].isna()] if headline else rows[rows["level"].notna()]
    rows = rows.rename(columns={"value": "published"})[["model", "set", "data", "size", "level", "published"]]
    return rows.merge(table[["panel", "model", "set"]].drop_duplicates(), on=["model", "set"])


def accuracy_by_level(frames: Frames) -> theme.Drawing | None:
    """Draw accuracy by mastery level of the question, a line per data kind, at the largest common size.

    Published values of models that this run has are diamonds.
    """
    scores = frames["scores_by_level"]
    table = tuned(scores[scores["common"] & (scores["method"] == "full")]).dropna(subset=["accuracy"])
    if table.empty:
        table = tuned(scores[scores["common"]]).dropna(subset=["accuracy"])
    if table.empty:
        return None
    panels = table[["panel", "model", "set"]].drop_duplicates()
    others = scores[scores["method"].isin(list(REFERENCE_NAMES)) & scores["set"].isin(list(theme.SET_TITLES))]
    others = others.merge(panels, on=["model", "set"]).assign(name=lambda rows: rows["method"].map(REFERENCE_NAMES))
    data = pd.concat([table, others])
    published = _published(frames, table, headline=False)
    published = published.merge(table[["model", "data", "size"]].drop_duplicates(), on=["model", "data", "size"])
    domain = [0.0, 1.0]
    last = data["level"].max()
    ends = theme.spread_labels(data[data["level"] == last], "accuracy", domain)
    data = data.merge(ends[["panel", "name", "level", "label_at"]], on=["panel", "name", "level"], how="left")
    data = pd.concat([data, published])
    x = alt.X("level:O", title="mastery level of the question", axis=alt.Axis(labelAngle=0))
    y = theme.share("accuracy", "accuracy", domain)
    color = theme.kind_color(table["data"])
    tip = [
        alt.Tooltip("name:N", title="training data"),
        alt.Tooltip("level:O", title="level asked"),
        alt.Tooltip("accuracy:Q", format=PERCENT),
        *INTERVAL,
        alt.Tooltip("questions:Q"),
    ]
    mine = alt.Chart().transform_filter("isValid(datum.data) && isValid(datum.accuracy)")
    rest = alt.Chart().transform_filter("!isValid(datum.data)")
    layers = [
        rest.mark_line(strokeDash=theme.DASH, color=theme.GREY).encode(x=x, y=y, detail="name:N", tooltip=tip),
        rest.transform_filter("isValid(datum.label_at)")
        .mark_text(align="left", dx=10, color=theme.GREY)
        .encode(x=x, y="label_at:Q", text="name:N"),
        mine.mark_area(opacity=0.08).encode(x=x, y="low:Q", y2="high:Q", color=color, detail="name:N"),
        mine.mark_line(point=True).encode(x=x, y=y, color=color, detail="name:N", tooltip=tip),
        mine.transform_filter("isValid(datum.label_at)")
        .mark_text(align="left", dx=10)
        .encode(x=x, y="label_at:Q", text="name:N", color=color),
    ]
    if len(published):
        layers.append(
            alt.Chart()
            .transform_filter("isValid(datum.published)")
            .mark_point(shape="diamond", filled=False, size=70)
            .encode(x=x, y="published:Q", color=color, tooltip=["data:N", alt.Tooltip("published:Q", format=PERCENT)])
        )
    chart = alt.layer(*layers).properties(width=theme.PANEL - 10, height=theme.HEIGHT)
    return theme.panels(chart, data, sort=list(dict.fromkeys(table["panel"])))


def training_accuracy(frames: Frames) -> theme.Drawing | None:
    """Draw the share of its training facts that each model answers: open marks before training, filled ones after."""
    names = {"training_set": "training set"}
    table = tuned(frames["scores"], names).dropna(subset=["accuracy"])
    if table.empty:
        return None
    if len(table) > MAX_CELLS * table["model"].nunique():
        table = table[table["size"] == table.groupby(["model", "method", "data"])["size"].transform("max")].copy()
    table["before"] = table["accuracy"] - table["gain"]
    several = table["model"].nunique() > 1
    table["panel"] = table["model"] if several else ""
    table["cell"] = table["name"] + ", " + table["size"].map("{:,.0f}".format) + " facts"
    order = list(dict.fromkeys(table.sort_values(["method", "data", "size"])["cell"]))
    x = alt.X(
        "accuracy:Q",
        title="share answered" if several else "share of its training facts that the model answers",
        axis=alt.Axis(format="%", grid=True),
        scale=alt.Scale(domain=[0, 1]),
    )
    y = alt.Y("cell:N", title=None, sort=order, axis=alt.Axis(grid=False, labelLimit=220))
    color = theme.kind_color(table["data"])
    tip = [
        alt.Tooltip("cell:N", title="cell"),
        alt.Tooltip("before:Q", format=PERCENT),
        alt.Tooltip("accuracy:Q", title="after", format=PERCENT),
        *INTERVAL,
        alt.Tooltip("seeds:Q"),
    ]
    base = alt.Chart()
    chart = alt.layer(
        base.mark_rule(opacity=0.5).encode(x=alt.X("before:Q"), x2="accuracy:Q", y=y, color=color),
        base.mark_rule(strokeWidth=5, opacity=0.25).encode(x="low:Q", x2="high:Q", y=y, color=color),
        base.mark_point(filled=False, color=theme.GREY, fill="white", fillOpacity=0).encode(
            x="before:Q", y=y, tooltip=tip
        ),
        base.mark_point(size=60).encode(x=x, y=y, color=color, tooltip=tip),
    ).properties(width=theme.PANEL - 80 if several else theme.WIDE - 80, height=alt.Step(19))
    return theme.panels(chart, table, gap=8, between=40)


def strategies(frames: Frames) -> theme.Drawing | None:
    """Draw headline accuracy of each strategy with its interval; published values are diamonds."""
    table = frames["strategies"]
    table = table[table["set"].isin(list(theme.SET_TITLES))].dropna(subset=["accuracy"]).copy()
    if table.empty:
        return None
    table["panel"] = theme.panel_names(table, table["set"].map(theme.SET_TITLES))
    table = by_model_and_set(table)
    table["row"] = table["strategy"].map(STRATEGY_NAMES)
    repeated = table.groupby("strategy")["chosen"].transform("nunique") > 1
    table.loc[repeated, "row"] = table["row"] + ", " + table["chosen"]
    rank = {name: number for number, name in enumerate(STRATEGY_NAMES)}
    order = list(dict.fromkeys(table.sort_values("strategy", key=lambda column: column.map(rank))["row"]))
    published = frames["published"]
    published = published[(published["source"] == "strategies") & published["of"].notna()]
    published = published.assign(model=published["of"], strategy=published["strategy"].map(PUBLISHED_STRATEGIES))
    published = published.merge(
        table.drop_duplicates(["model", "set", "strategy"])[["model", "set", "strategy", "panel", "row"]],
        on=["model", "set", "strategy"],
    )[["panel", "row", "value"]].rename(columns={"value": "published"})
    data = pd.concat([table, published])
    domain = theme.axis_domain(table["low"], table["high"], published["published"])
    x = alt.X(
        "accuracy:Q",
        title="accuracy, mean of five levels",
        axis=alt.Axis(format="%", grid=True, tickCount=5),
        scale=alt.Scale(domain=domain, nice=False),
    )
    y = alt.Y("row:N", title=None, sort=order, axis=alt.Axis(labelLimit=200))
    tip = [
        alt.Tooltip("row:N", title="strategy"),
        alt.Tooltip("data:N"),
        alt.Tooltip("size:Q", title="facts"),
        alt.Tooltip("percent:Q", title="% restored"),
        alt.Tooltip("accuracy:Q", format=PERCENT),
        *INTERVAL,
    ]
    base = alt.Chart().transform_filter("isValid(datum.accuracy)")
    color = alt.condition("datum.strategy == 'restored'", alt.value(theme.GAIN), alt.value(theme.TEXT))
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.55).encode(x="low:Q", x2="high:Q", y=y, color=color),
        base.mark_point(size=60).encode(x=x, y=y, color=color, tooltip=tip),
        base.mark_text(dy=-10, fontSize=11).encode(x=x, y=y, text=alt.Text("accuracy:Q", format=PERCENT), color=color),
    ]
    if len(published):
        layers.append(
            alt.Chart()
            .transform_filter("isValid(datum.published)")
            .mark_point(shape="diamond", filled=False, size=70, color=theme.GREY)
            .encode(x="published:Q", y=y, tooltip=[alt.Tooltip("published:Q", format=PERCENT)])
        )
    chart = alt.layer(*theme.zoomed(layers, domain, "x")).properties(width=theme.PANEL - 20, height=alt.Step(34))
    return theme.panels(chart, data, sort=list(dict.fromkeys(table["panel"])), gap=8, between=40)
