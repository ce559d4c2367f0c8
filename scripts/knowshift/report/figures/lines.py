"""What several charts of fine-tuned models share: their rows, their reference, and lines over the number of facts."""

import re
from collections.abc import Mapping

import altair as alt
import pandas as pd

from knowshift.report.figures import theme

PERCENT = ".1%"  # format of a share in a tooltip
INTERVAL = [alt.Tooltip("low:Q", title="from", format=PERCENT), alt.Tooltip("high:Q", title="to", format=PERCENT)]
# What answers without fine-tuning here, as the column `method` of scores names it, and as charts do.
REFERENCE_NAMES = {
    "pre-trained": "pre-trained",
    "few-shot": "few-shot",
    "most frequent object": "most frequent",
    "instruct": "chat model",
}
METHOD_DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [10, 4]]  # full fine-tuning is solid


def tuned(table: pd.DataFrame, sets: Mapping[str, str] = theme.SET_TITLES) -> pd.DataFrame:
    """Keep the rows of fine-tuned models on some sets of questions, in the order of models and sets.

    Args:
        table: rows with the columns model, method, data and set.
        sets: the sets of questions, with their titles.

    Returns:
        The rows with two more columns: `panel`, the heading of the panel that shows them (model and set), and `name`,
        that of their line (data kind, and the method unless it is full fine-tuning).
    """
    kept = table[table["data"].notna() & table["set"].isin(list(sets))].copy()
    kept["panel"] = theme.panel_names(kept, kept["set"].map(sets))
    kept["name"] = kept["data"].map(theme.kind_name)
    other = kept["method"] != "full"
    kept.loc[other, "name"] = kept["name"] + ", " + kept["method"]
    return by_model_and_set(kept, sets)


def by_model_and_set(table: pd.DataFrame, sets: Mapping[str, str] = theme.SET_TITLES) -> pd.DataFrame:
    """Sort rows by model, in the order in which the models first appear, and by set, in the order of `sets`."""
    order = {"model": list(dict.fromkeys(table["model"])), "set": list(sets)}
    return table.sort_values(
        ["model", "set"], kind="stable", key=lambda column: column.map(order[str(column.name)].index)
    )


def reference(table: pd.DataFrame, panels: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return the values of what was not fine-tuned in each panel, in a column `reference`, with a column `name`.

    Args:
        table: rows of all models, pre-trained ones too.
        panels: rows with the columns panel, model and set.
        value: column of `table` with the value.
    """
    before = table[table["method"].isin(list(REFERENCE_NAMES))]
    before = before.assign(name=before["method"].map(REFERENCE_NAMES), reference=before[value])
    before = before[["model", "set", "name", "reference"]]
    return panels[["panel", "model", "set"]].drop_duplicates().merge(before, on=["model", "set"]).dropna()


def lines_by_size(
    table: pd.DataFrame,
    value: str,
    low: str,
    high: str,
    title: str | None,
    domain: list[float],
    start: pd.DataFrame | None = None,
    percent: bool = True,
) -> tuple[pd.DataFrame, list[alt.Chart]]:
    """Draw a line per data kind over the number of training facts, with bands, marks, and names at the ends.

    Args:
        table: a row per cell; see `tuned`.
        value: column of the value.
        low, high: columns of the ends of its interval.
        title: of the vertical axis.
        domain: ends of the vertical axis.
        start: values of what was not fine-tuned in each panel, in the columns `name` and `reference`, which are drawn
            as dashed lines.
        percent: whether the value is a share, shown in percent.

    Returns:
        The data, and the layers that are drawn from it.
    """
    x, y, color = theme.sizes(table["size"]), theme.share(value, title, domain), theme.kind_color(table["data"])
    if not percent:
        y = alt.Y(f"{value}:Q", title=title, scale=alt.Scale(domain=domain, nice=False), axis=alt.Axis(tickCount=5))
    ends = table[table["size"] == table.groupby(["panel", "name"])["size"].transform("max")]
    before = None
    if start is not None:
        before = start.assign(name=start.get("name", "pre-trained"))
        before = before[["panel", "name", "reference"]].dropna().drop_duplicates(["panel", "name"])
        ends = pd.concat([ends, before.assign(**{value: before["reference"]})])
    ends = theme.spread_labels(ends.assign(last=table["size"].max()), value, domain)
    placed = ["panel", "name", "label_at", "last"]
    data = table.merge(ends[[*placed, "size"]], on=["panel", "name", "size"], how="left")
    base = alt.Chart().transform_filter("isValid(datum.data)")
    number = PERCENT if percent else ".3f"
    tip = [
        alt.Tooltip("name:N", title="training data"),
        alt.Tooltip("size:Q", title="facts"),
        alt.Tooltip(f"{value}:Q", format=number),
        alt.Tooltip(f"{low}:Q", title="from", format=number),
        alt.Tooltip(f"{high}:Q", title="to", format=number),
        alt.Tooltip("seeds:Q"),
    ]
    picked = alt.selection_point(
        name=re.sub(r"\W", "_", f"near_{value}_{table['panel'].iloc[0]}"),
        fields=["name"],
        on="pointerover",
        clear="pointerout",
        empty=True,
    )
    faded = alt.when(picked).then(alt.value(1.0)).otherwise(alt.value(0.2))
    methods = sorted(table["method"].unique(), key=lambda method: (method != "full", method))
    dashes = alt.Scale(domain=methods, range=METHOD_DASHES[: len(methods)])
    dash = alt.StrokeDash("method:N", legend=None, scale=dashes)
    layers = [
        base.mark_area(opacity=0.1).encode(x=x, y=alt.Y(f"{low}:Q"), y2=f"{high}:Q", color=color, detail="name:N"),
        base.mark_line().encode(x=x, y=y, color=color, detail="name:N", strokeDash=dash, opacity=faded),
        base.mark_point().encode(x=x, y=y, color=color, tooltip=tip, opacity=faded).add_params(picked),
        base.mark_text(align="left", dx=10).encode(
            x=alt.X("last:Q"), y=alt.Y("label_at:Q"), text="name:N", color=color, opacity=faded
        ),
    ]
    if before is None:
        return data, layers
    rest = alt.Chart().transform_filter("isValid(datum.reference)")
    rule = rest.mark_rule(strokeDash=theme.DASH, color=theme.GREY, strokeWidth=1.3).encode(y=alt.Y("reference:Q"))
    name = rest.mark_text(align="left", dx=14, color=theme.GREY).encode(
        x=alt.X("last:Q"), y=alt.Y("label_at:Q"), text="name:N"
    )
    data = pd.concat([data, before.merge(ends[placed], on=["panel", "name"])])
    return data, [rule, *layers, name]
