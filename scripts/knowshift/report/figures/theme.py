"""How every chart looks: one theme, safe for colour-blind readers, legible on paper, on white and on dark screens.

Mastery levels are an ordered scale: lightness rises with the level. `mixed` is drawn in the colour of the text and the
pre-trained model in grey, apart from that scale. Text and lines of axes take the page's colour (`currentColor`; black in
a file of its own). Colours that would be lost on a dark page have a twin there: `DARK`, from which the page makes its style.
"""

from collections.abc import Sequence

import altair as alt
import pandas as pd

LEVEL_COLORS = ["#1f1a93", "#7417a6", "#b5327f", "#dd6a4f", "#e8a020"]
LEVEL_COLORS_DARK = ["#7f86ff", "#b57bf0", "#e57bb8", "#f7a184", "#ffd27d"]
KINDS = ["level0", "level1", "level2", "level3", "level4", "mixed"]
KIND_NAMES = ["level 0", "level 1", "level 2", "level 3", "level 4", "mixed"]
TEXT = "currentColor"
GREY = "#7a7a7a"  # 4.3 to 1 on white and on the dark page
GAIN, LOSS = "#0b6fb0", "#c8501c"
GAIN_SOFT, LOSS_SOFT = "#4f93bd", "#b8735a"
KEPT, REGAINED, UNDONE, UNKNOWN = "#2f8578", "#6a55b0", "#a07c22", "#85857c"
DARK = {
    **dict(zip(LEVEL_COLORS, LEVEL_COLORS_DARK, strict=True)),
    GREY: "#9a9a9a",
    GAIN: "#3f93d6",
    LOSS: "#e0703c",
}
KIND_COLORS = [*LEVEL_COLORS, TEXT]
SETS = {"test": "in-domain test", "test_ood": "out-of-domain test"}
DASH = [4, 4]  # of what is not fine-tuned
PANEL = 244  # width of one of two panels beside each other, in pixels
WIDE = 560  # width of one alone
HEIGHT = 210
FONT = "Charter, 'Bitstream Charter', 'Liberation Serif', Georgia, serif"
LINE = 15  # pixels between two labels


@alt.theme.register("knowshift", enable=True)
def _theme() -> alt.theme.ThemeConfig:
    text = {
        "labelColor": TEXT,
        "titleColor": TEXT,
        "labelFontSize": 13,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
    }
    return {
        "config": {
            "font": FONT,
            "background": "white",
            "padding": 4,
            "view": {"continuousWidth": PANEL, "continuousHeight": HEIGHT, "stroke": None},
            "axis": {
                **text,
                "gridColor": TEXT,
                "gridOpacity": 0.12,
                "domain": False,
                "tickColor": TEXT,
                "tickOpacity": 0.3,
                "tickSize": 4,
                "titlePadding": 8,
                "labelOverlap": "greedy",
            },
            "axisX": {"grid": False, "domain": True, "domainColor": TEXT, "domainOpacity": 0.3, "labelFlush": False},
            "axisY": {"titleAnchor": "end", "titleAngle": 0, "titleAlign": "left", "titleX": 0, "titleY": -10},
            "header": {
                **text,
                "labelFontSize": 14,
                "labelFontWeight": "bold",
                "labelAnchor": "start",
                "title": None,
            },
            "title": {"color": TEXT, "fontSize": 14, "fontWeight": "bold", "anchor": "start", "offset": 12},
            "legend": {**text, "orient": "bottom", "direction": "horizontal", "symbolOpacity": 1, "offset": 14},
            "line": {"strokeWidth": 2},
            "point": {"size": 42, "filled": True},
            "text": {"color": TEXT, "fontSize": 13},
            "rule": {"color": TEXT},
            "facet": {"spacing": {"row": 34, "column": 84}},
            "concat": {"spacing": 44},
        }
    }


def kind_color(kinds: Sequence[str], legend: bool = False) -> alt.Color:
    """A colour per data kind, the same in every chart; kinds that are not shown stay out of the legend."""
    shown = [(kind, color) for kind, color in zip(KINDS, KIND_COLORS, strict=True) if kind in set(kinds)]
    return alt.Color(
        "data:N",
        title="training data",
        sort=KINDS,
        scale=alt.Scale(domain=[kind for kind, _ in shown], range=[color for _, color in shown]),
        legend=alt.Legend(labelExpr="replace(datum.label, 'level', 'level ')") if legend else None,
    )


def level_color(title: str = "mastery level") -> alt.Color:
    """The ordered colours of the five levels."""
    return alt.Color("level:O", title=title, scale=alt.Scale(domain=[0, 1, 2, 3, 4], range=LEVEL_COLORS))


def kind_name(kind: str) -> str:
    """The name of a data kind as readers see it."""
    return dict(zip(KINDS, KIND_NAMES, strict=True)).get(kind, kind)


def sizes(values: pd.Series, title: str = "training facts (log scale)") -> alt.X:
    """A log axis with a tick at each size that was run."""
    ticks = sorted(int(value) for value in values.unique())
    scale = alt.Scale(type="log", nice=False, padding=10)
    return alt.X("size:Q", title=title, scale=scale, axis=alt.Axis(values=ticks, format="d"))


def share(field: str, title: str | None, domain: Sequence[float] | None = None, **axis: object) -> alt.Y:
    """A share from 0 to 1, printed in percent."""
    scale = alt.Scale(domain=list(domain), nice=False) if domain else alt.Scale(zero=False)
    return alt.Y(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(format="%", tickCount=5, **axis))


def domain_of(
    *columns: pd.Series, margin: float = 0.06, floor: float | None = 0.0, top: float | None = 1.0
) -> list[float]:
    """The range of some values with a margin, within `floor` and `top`."""
    values = pd.concat(columns).dropna()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    pad = max((high - low) * margin, 0.01 * max(abs(high), 1e-6))
    low, high = low - pad, high + pad
    return [low if floor is None else max(low, floor), high if top is None else min(high, max(top, low + pad))]


def place_labels(
    ends: pd.DataFrame, value: str, domain: Sequence[float], height: float = HEIGHT, by: Sequence[str] = ("panel",)
) -> pd.DataFrame:
    """Where labels at the ends of lines stand so that none covers another.

    Args:
        ends: one row per label.
        value: column with the height of the line's end, in data units.
        domain: of the axis.
        by: columns that name the panel.

    Returns:
        `ends` with `label_at`, in data units: as near to `value` as the other labels of the panel allow.
    """
    gap = LINE * (domain[1] - domain[0]) / height
    parts = []
    for _, group in ends.groupby(list(by), sort=False):
        group = group.sort_values(value).copy()
        places = [float(place) for place in group[value]]
        clusters = [[place, 1] for place in places]  # centre and number of labels of every run of labels that touch
        merged: list[list[float]] = []
        for cluster in clusters:
            merged.append(cluster)
            while len(merged) > 1 and merged[-1][0] - merged[-2][0] < gap * (merged[-1][1] + merged[-2][1]) / 2:
                second, first = merged.pop(), merged.pop()
                count = first[1] + second[1]
                merged.append([(first[0] * first[1] + second[0] * second[1]) / count, count])
        group["label_at"] = [
            centre + gap * (place - (count - 1) / 2) for centre, count in merged for place in range(int(count))
        ]
        parts.append(group)
    return pd.concat(parts) if parts else ends.assign(label_at=pd.Series(dtype=float))


def zoomed(layers: Sequence[alt.Chart], domain: Sequence[float], channel: str = "y") -> list[alt.Chart]:
    """The layers with one domain for all of them: one that named none would widen it to 0."""
    scale = alt.Scale(domain=list(domain), nice=False, zero=False)
    for layer in layers:
        encoded = getattr(layer.encoding, channel, alt.Undefined)
        if isinstance(encoded, alt.X | alt.Y):
            encoded["scale"] = scale
    return list(layers)


def panels(
    chart: alt.Chart | alt.LayerChart,
    data: pd.DataFrame,
    columns: int = 2,
    sort: Sequence[str] | None = None,
    gap: int = 26,
    between: int = 84,
) -> alt.Chart:
    """One panel for each value of the column `panel`, in the order of the data; a single one needs no heading.

    Args:
        gap: pixels between heading and panel; a title of the vertical axis stands in it.
        between: pixels between panels; names at the ends of lines stand in it.
    """
    order = list(sort or dict.fromkeys(data["panel"]))
    if len(order) < 2:
        return chart.properties(data=data)
    facet = alt.Facet("panel:N", title=None, sort=order, header=alt.Header(labelPadding=gap))
    return chart.facet(facet, columns=columns, data=data, spacing={"row": 34, "column": between})


def panel_names(table: pd.DataFrame, *parts: pd.Series) -> pd.Series:
    """Headings of panels: the model's name stands in them where there are several."""
    columns = [table["model"]] if table["model"].nunique() > 1 else []
    columns += list(parts)
    if not columns:
        return pd.Series("", index=table.index)
    return pd.Series([", ".join(str(part) for part in row) for row in zip(*columns, strict=True)], index=table.index)
