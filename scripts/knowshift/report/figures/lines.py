"""Parts that the line charts of accuracy share."""

import re
from collections.abc import Mapping

import altair as alt
import pandas as pd

from knowshift.report.figures import theme

PERCENT = ".1%"


INTERVAL = [alt.Tooltip("low:Q", title="from", format=PERCENT), alt.Tooltip("high:Q", title="to", format=PERCENT)]


def tuned(table: pd.DataFrame, sets: Mapping[str, str] = theme.SETS) -> pd.DataFrame:
    """Rows of fine-tuned models on held-out questions, with a column `panel` (model and set) and one `name` (series)."""
    kept = table[table["data"].notna() & table["set"].isin(list(sets))].copy()
    kept["panel"] = theme.panel_names(kept, kept["set"].map(sets))
    kept["name"] = kept["data"].map(theme.kind_name)
    other = kept["method"] != "full"
    kept.loc[other, "name"] = kept["name"] + ", " + kept["method"]
    order = {"model": list(dict.fromkeys(kept["model"])), "set": list(sets)}
    return kept.sort_values(["model", "set"], kind="stable", key=lambda column: column.map(order[column.name].index))


def reference(table: pd.DataFrame, panels: pd.DataFrame, value: str) -> pd.DataFrame:
    """The pre-trained model's `value` in each panel."""
    before = table[table["method"] == "pre-trained"][["model", "set", value]].rename(columns={value: "reference"})
    return panels[["panel", "model", "set"]].drop_duplicates().merge(before, on=["model", "set"]).dropna()


def lines_by_size(
    table: pd.DataFrame,
    value: str,
    low: str,
    high: str,
    title: str | None,
    domain: list[float],
    start: pd.DataFrame | None = None,
    **axis: object,
) -> tuple[pd.DataFrame, list[alt.Chart]]:
    """A line per data kind over the sizes: intervals as bands, a mark per cell, names at the ends.

    Args:
        start: the pre-trained model's value in each panel, a column `reference`: a dashed line.

    Returns:
        The data and the layers that are drawn from it.
    """
    x, y, color = theme.sizes(table["size"]), theme.share(value, title, domain), theme.kind_color(table["data"])
    if axis:
        y = alt.Y(f"{value}:Q", title=title, scale=alt.Scale(domain=domain, nice=False), axis=alt.Axis(**axis))
    ends = table[table["size"] == table.groupby(["panel", "name"])["size"].transform("max")]
    if start is not None:
        start = start[["panel", "reference"]].dropna().drop_duplicates("panel").assign(name="pre-trained")
        ends = pd.concat([ends, start.assign(**{value: start["reference"]})])
    ends = theme.place_labels(ends.assign(last=table["size"].max()), value, domain)
    placed = ["panel", "name", "label_at", "last"]
    labels = table.merge(ends[[*placed, "size"]], on=["panel", "name", "size"], how="left")
    base = alt.Chart().transform_filter("isValid(datum.data)")
    rest = alt.Chart().transform_filter("isValid(datum.reference)")
    number = PERCENT if not axis else ".3f"
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
    dash = alt.StrokeDash("method:N", legend=None, scale=alt.Scale(domain=_methods(table), range=_dashes(table)))
    layers = [
        base.mark_area(opacity=0.1).encode(x=x, y=alt.Y(f"{low}:Q"), y2=f"{high}:Q", color=color, detail="name:N"),
        base.mark_line().encode(x=x, y=y, color=color, detail="name:N", strokeDash=dash, opacity=faded),
        base.mark_point().encode(x=x, y=y, color=color, tooltip=tip, opacity=faded).add_params(picked),
        base.mark_text(align="left", dx=10).encode(
            x=alt.X("last:Q"), y=alt.Y("label_at:Q"), text="name:N", color=color, opacity=faded
        ),
    ]
    if start is None:
        return labels, layers
    rule = rest.mark_rule(strokeDash=theme.DASH, color=theme.GREY, strokeWidth=1.3).encode(y=alt.Y("reference:Q"))
    name = rest.mark_text(align="left", dx=14, color=theme.GREY).encode(
        x=alt.X("last:Q"), y=alt.Y("label_at:Q"), text="name:N"
    )
    labels = pd.concat([labels, start.merge(ends[placed], on=["panel", "name"])])
    return labels, [rule, *layers, name]


def _methods(table: pd.DataFrame) -> list[str]:
    return sorted(table["method"].unique(), key=lambda method: (method != "full", method))


def _dashes(table: pd.DataFrame) -> list[list[int]]:
    return [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [10, 4]][: len(_methods(table))]
