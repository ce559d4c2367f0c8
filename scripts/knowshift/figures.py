"""The study's figures in Altair, from its tables; one theme, safe for colour-blind readers.

Every function takes tables as data frames (with a column `model`) and gives a chart. Levels are an ordered scale; the
data kind `mixed` stands apart from it in black.
"""

from collections.abc import Callable, Mapping

import altair as alt
import pandas as pd

LEVEL_COLORS = ["#440154", "#3b528b", "#21918c", "#5ec962", "#c8b20a"]  # viridis, its yellow darkened for white paper
KINDS = ["level0", "level1", "level2", "level3", "level4", "mixed"]
KIND_COLORS = [*LEVEL_COLORS, "#111111"]
SETS = {"test": "in-domain test", "test_ood": "out-of-domain test"}

Tables = Mapping[str, pd.DataFrame]


@alt.theme.register("knowshift", enable=True)
def _theme() -> alt.theme.ThemeConfig:
    font = "Georgia, 'Liberation Serif', serif"
    return {
        "config": {
            "font": font,
            "background": "white",
            "view": {"continuousWidth": 300, "continuousHeight": 220, "stroke": None},
            "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "gridColor": "#e6e6e6"},
            "header": {"labelFontSize": 13, "titleFontSize": 0, "labelFontWeight": "bold"},
            "legend": {
                "labelFontSize": 12,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "orient": "bottom",
                "symbolOpacity": 1,
            },
            "line": {"strokeWidth": 2},
            "point": {"size": 50, "filled": True},
        }
    }


def _kind_color(table: pd.DataFrame) -> alt.Color:
    """A color per data kind, the same in every figure; kinds that are not in the table stay out of the legend."""
    shown = [(kind, color) for kind, color in zip(KINDS, KIND_COLORS, strict=True) if kind in set(table["data"])]
    scale = alt.Scale(domain=[kind for kind, _ in shown], range=[color for _, color in shown])
    return alt.Color("data:N", title="training data", sort=KINDS, scale=scale)


def _with_cells(table: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """Rows of fine-tuned runs with what their cell was: data, size (facts used), seed."""
    cells = tables["cells"][["model", "run", "method", "data", "facts", "seed"]].rename(columns={"facts": "size"})
    return table.merge(cells, on=["model", "run"])


def _named_sets(table: pd.DataFrame) -> pd.DataFrame:
    kept = table[table["set"].isin(SETS)].copy()
    kept["set"] = kept["set"].map(SETS)
    return kept


def _facets(chart: alt.LayerChart | alt.Chart, table: pd.DataFrame, column: str | None) -> alt.Chart:
    """Panels: a column for each value of `column`, a row for each model where there are several."""
    channels = {}
    if column:
        channels["column"] = alt.Column(f"{column}:N", title=None)
    if table["model"].nunique() > 1:
        channels["row"] = alt.Row("model:N", title=None)
    return chart.facet(**channels, data=table) if channels else chart.properties(data=table)


def mastery(tables: Tables) -> alt.Chart:
    """Facts per mastery level of each topic, over all splits that were probed."""
    table = tables["mastery"].groupby(["model", "domain", "topic", "level"], as_index=False)["facts"].sum()
    table["domain"] = table["domain"].str.replace("_", "-")
    bars = (
        alt.Chart()
        .mark_bar()
        .encode(
            x=alt.X("facts:Q", title="share of facts", stack="normalize", axis=alt.Axis(format="%")),
            y=alt.Y("topic:N", title=None),
            color=alt.Color(
                "level:O", title="mastery level", scale=alt.Scale(domain=[0, 1, 2, 3, 4], range=LEVEL_COLORS)
            ),
            order=alt.Order("level:O"),
            tooltip=["topic", "level", "facts"],
        )
        .properties(width=270, height=alt.Step(26))
    )
    return _facets(bars, table, "domain").resolve_scale(y="independent")


def accuracy_by_size(tables: Tables) -> alt.Chart:
    """Headline accuracy against training facts; the band is the range over seeds, dashes the pre-trained model."""
    scores = _named_sets(tables["accuracy"])
    table = _with_cells(scores, tables)
    before = scores[scores["run"] == "base"][["model", "set", "accuracy"]].rename(columns={"accuracy": "before"})
    table = table.merge(before, on=["model", "set"])
    x = alt.X(
        "size:Q", title="training facts", scale=alt.Scale(type="log", nice=False, padding=12), axis=_size_axis(table)
    )
    y = alt.Y("accuracy:Q", title="accuracy, mean of five levels", axis=alt.Axis(format="%"))
    base = alt.Chart()
    layers = alt.layer(
        base.mark_rule(strokeDash=[4, 4], color="#666").encode(y="mean(before):Q"),
        base.mark_area(opacity=0.15).encode(x=x, y="min(accuracy):Q", y2="max(accuracy):Q", color=_kind_color(table)),
        base.mark_line().encode(x=x, y="mean(accuracy):Q", color=_kind_color(table)),
        base.mark_point(opacity=0.6).encode(
            x=x, y=y, color=_kind_color(table), tooltip=["run", alt.Tooltip("accuracy", format=".1%")]
        ),
    )
    return _facets(layers, table, "set")


def _size_axis(table: pd.DataFrame) -> alt.Axis:
    return alt.Axis(values=sorted(table["size"].unique().tolist()), format="d")


def accuracy_by_level(tables: Tables) -> alt.Chart:
    """Accuracy per mastery level of the question at the largest size, mean over seeds; dashes the pre-trained model."""
    scores = _named_sets(tables["accuracy_by_level"])
    table = _with_cells(scores, tables)
    largest = table.groupby(["model", "data"])["size"].transform("max")
    table = table[table["size"] == largest]
    before = scores[scores["run"] == "base"].assign(data="pre-trained")
    x = alt.X("level:O", title="mastery level of the question", axis=alt.Axis(labelAngle=0))
    y = alt.Y("mean(accuracy):Q", title="accuracy", axis=alt.Axis(format="%"))
    lines = alt.Chart().transform_filter("datum.data != 'pre-trained'")
    tip = ["data", "level", alt.Tooltip("mean(accuracy)", format=".1%")]
    layers = alt.layer(
        alt.Chart()
        .transform_filter("datum.data == 'pre-trained'")
        .mark_line(strokeDash=[4, 4], color="#666")
        .encode(x=x, y=y),
        lines.mark_line(point=True).encode(x=x, y=y, color=_kind_color(table), tooltip=tip),
    )
    return _facets(layers.properties(width=300), pd.concat([table, before]), "set")


def training_accuracy(tables: Tables) -> alt.Chart:
    """Accuracy on the facts a model was trained on, before and after."""
    table = _with_cells(tables["training_accuracy"], tables)
    table["cell"] = table["data"] + ", " + table["size"].astype(str)
    order = alt.EncodingSortField("size")
    y = alt.Y("cell:N", title=None, sort=order)
    base = alt.Chart()
    tip = ["run", alt.Tooltip("before", format=".1%"), alt.Tooltip("after", format=".1%")]
    layers = alt.layer(
        base.mark_rule(color="#999").encode(
            x=alt.X("mean(before):Q", title="share of training facts answered", axis=alt.Axis(format="%")),
            x2="mean(after):Q", y=y,
        ),
        base.mark_point(filled=False, color="#666").encode(x="mean(before):Q", y=y),
        base.mark_point().encode(x="mean(after):Q", y=y, color=_kind_color(table)),
        base.mark_point(opacity=0.3, size=20).encode(x="after:Q", y=y, color=_kind_color(table), tooltip=tip),
    )  # fmt: skip
    return _facets(layers.properties(width=420, height=alt.Step(24)), table, None)


def divergence(tables: Tables) -> alt.Chart:
    """KL to the pre-trained model, and accuracy on level-4 facts, against training facts."""
    table = _with_cells(_named_sets(tables["divergence"]), tables).dropna(subset=["kl"])
    x = alt.X(
        "size:Q", title="training facts", scale=alt.Scale(type="log", nice=False, padding=12), axis=_size_axis(table)
    )

    def panel(field: str, title: str, axis: alt.Axis) -> alt.FacetChart:
        tip = ["run", alt.Tooltip(field, format=".3f")]
        base = alt.Chart()
        layers = alt.layer(
            base.mark_line().encode(x=x, y=alt.Y(f"mean({field}):Q", title=title, axis=axis), color=_kind_color(table)),
            base.mark_point(opacity=0.6).encode(x=x, y=f"{field}:Q", color=_kind_color(table), tooltip=tip),
        ).properties(height=160)
        return _facets(layers, table, "set")

    return alt.vconcat(
        panel("kl", "KL to pre-trained (nats)", alt.Axis()),
        panel("accuracy_level4", "accuracy, level 4", alt.Axis(format="%")),
    )


def concentration(tables: Tables) -> alt.Chart:
    """The share of the total relative change held by the most changed parameters, exact zeros left out."""
    table = _with_cells(tables["concentration"], tables)
    table = table[table["size"] == table.groupby(["model", "data"])["size"].transform("max")]
    x = alt.X("percent:Q", title="most changed parameters, % of the region")
    y = alt.Y(
        "mean(share_without_zeros):Q",
        title="share of total change",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%"),
    )
    tip = ["data", "percent", alt.Tooltip("mean(share_without_zeros)", format=".1%")]
    return _facets(
        alt.Chart().mark_line(point=True).encode(x=x, y=y, color=_kind_color(table), tooltip=tip), table, "region"
    )


def restored(tables: Tables) -> alt.Chart:
    """Headline accuracy against the share of parameters restored; 0 is the fine-tuned model, dashes the pre-trained."""
    table = _with_cells(_named_sets(tables["restored"]), tables)
    table["share"] = table["percent"].map(lambda percent: f"{percent:g}")
    before = _named_sets(tables["accuracy"])
    before = before[before["run"] == "base"][["model", "set", "accuracy"]].rename(columns={"accuracy": "before"})
    table = table.merge(before, on=["model", "set"])
    shares = [f"{percent:g}" for percent in sorted(table["percent"].unique())]
    x = alt.X("share:N", title="share of parameters restored, %", sort=shares, axis=alt.Axis(labelAngle=0))
    y = alt.Y("mean(accuracy):Q", title="accuracy, mean of five levels", axis=alt.Axis(format="%"))
    detail = [alt.Detail("size:N"), alt.Detail("strategy:N"), alt.Detail("region:N")]
    tip = ["data", "size", "strategy", "region", "share", alt.Tooltip("mean(accuracy)", format=".1%")]
    layers = alt.layer(
        alt.Chart().mark_rule(strokeDash=[4, 4], color="#666").encode(y="mean(before):Q"),
        alt.Chart().mark_line(point=True).encode(x=x, y=y, color=_kind_color(table), detail=detail, tooltip=tip),
    )
    return _facets(layers.properties(width=300), table, "set")


# name -> (function, tables that must have rows)
FIGURES: dict[str, tuple[Callable[[Tables], alt.Chart], tuple[str, ...]]] = {
    "mastery": (mastery, ("mastery",)),
    "accuracy_by_size": (accuracy_by_size, ("cells", "accuracy")),
    "accuracy_by_level": (accuracy_by_level, ("cells", "accuracy_by_level")),
    "training_accuracy": (training_accuracy, ("training_accuracy",)),
    "divergence": (divergence, ("divergence",)),
    "concentration": (concentration, ("concentration",)),
    "restored": (restored, ("restored",)),
}


def draw(name: str, tables: Tables) -> alt.Chart:
    """The figure `name`; where the cells it shows were not run, a chart that says so."""
    function, needed = FIGURES[name]
    if all(len(tables[table]) for table in needed):
        return function(tables)
    nothing = pd.DataFrame({"text": ["No cell of this experiment has data for this figure."]})
    return (
        alt.Chart(nothing).mark_text(fontSize=14, color="#666").encode(text="text:N").properties(width=420, height=60)
    )
