"""How charts look: one theme that reads well for colour-blind readers, on paper, and on white and dark screens.

Mastery levels are an ordered scale: lightness rises with the level. `mixed` is drawn in the colour of the text and the
pre-trained model in grey, apart from that scale. Text and lines of axes take the colour of the page (`currentColor`,
which is black in a file of its own). Colours that would be lost on a dark page have a counterpart there, in `DARK`.
"""

from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

import altair as alt
import pandas as pd

Drawing = alt.Chart | alt.LayerChart | alt.FacetChart | alt.ConcatChart  # what the functions of figures return

LEVEL_COLORS = ["#1f1a93", "#7417a6", "#b5327f", "#dd6a4f", "#e8a020"]
LEVEL_COLORS_DARK = ["#7f86ff", "#b57bf0", "#e57bb8", "#f7a184", "#ffd27d"]
KINDS = ["level0", "level1", "level2", "level3", "level4", "mixed"]
KIND_NAMES = ["level 0", "level 1", "level 2", "level 3", "level 4", "mixed"]
TEXT = "currentColor"
GREY = "#7a7a7a"  # 4.3 to 1 on white and on the dark page
GAIN, LOSS = "#0b6fb0", "#c8501c"
# What became of a fact by fine-tuning and restoring, see `flow.FATES`.
FATE_COLORS = {
    "kept": "#2f8578",
    "regained": "#6a55b0",
    "lost": LOSS,
    "lost by restoring": "#b8735a",
    "learned": GAIN,
    "learned by restoring": "#4f93bd",
    "learned, then undone": "#a07c22",
    "never known": "#85857c",
}
# On a dark page, each colour that is a key is drawn in its value.
DARK = {
    **dict(zip(LEVEL_COLORS, LEVEL_COLORS_DARK, strict=True)),
    GREY: "#9a9a9a",
    GAIN: "#3f93d6",
    LOSS: "#e0703c",
}
KIND_COLORS = [*LEVEL_COLORS, TEXT]
OTHER_COLORS = [FATE_COLORS[name] for name in ("kept", "regained", "learned, then undone", "learned by restoring")]
# Sets of questions that are held out from training, and how headings of panels name them.
SET_TITLES = {"test": "in-domain test", "test_ood": "out-of-domain test"}
# States of a model, and their names in charts.
STATE_NAMES = {"before": "before", "after": "fine-tuned", "restored": "restored"}
DASH = [4, 4]  # pixels drawn and left out, for models that were not fine-tuned
PANEL = 244  # width in pixels of a panel that stands beside another
WIDE = 560  # width in pixels of a panel that stands alone
HEIGHT = 210  # height of a panel in pixels
FONT = "Charter, 'Bitstream Charter', 'Liberation Serif', Georgia, serif"
LABEL_HEIGHT = 15  # pixels from one label to the next

_TEXT_STYLE = {
    "labelColor": TEXT,
    "titleColor": TEXT,
    "labelFontSize": 13,
    "titleFontSize": 13,
    "titleFontWeight": "normal",
}
# The `config` of every chart: Vega-Lite's defaults for axes, headings, legends and marks.
CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": "white",
    "padding": 4,
    "view": {"continuousWidth": PANEL, "continuousHeight": HEIGHT, "stroke": None},
    "axis": {
        **_TEXT_STYLE,
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
        **_TEXT_STYLE,
        "labelFontSize": 14,
        "labelFontWeight": "bold",
        "labelAnchor": "start",
        "title": None,
    },
    "title": {"color": TEXT, "fontSize": 14, "fontWeight": "bold", "anchor": "start", "offset": 12},
    "legend": {**_TEXT_STYLE, "orient": "bottom", "direction": "horizontal", "symbolOpacity": 1, "offset": 14},
    "line": {"strokeWidth": 2},
    "point": {"size": 42, "filled": True},
    "text": {"color": TEXT, "fontSize": 13},
    "rule": {"color": TEXT},
    "facet": {"spacing": {"row": 34, "column": 84}},
    "concat": {"spacing": 44},
}


def kind_color(kinds: Iterable[str], legend: bool = False) -> alt.Color:
    """Encode the data kind as a colour, the same in every chart.

    Args:
        kinds: the data kinds that the chart shows, others stay out of its legend; and the names of models that were
            fine-tuned elsewhere.
        legend: whether the chart has a legend; charts that name their lines at the ends need none.
    """
    present = list(dict.fromkeys(kinds))
    others = [kind for kind in present if isinstance(kind, str) and kind not in KINDS]
    shown = [(kind, color) for kind, color in zip(KINDS, KIND_COLORS, strict=True) if kind in present]
    shown += zip(others, cycle(OTHER_COLORS))
    return alt.Color(
        "data:N",
        title="training data",
        sort=[*KINDS, *others],
        scale=alt.Scale(domain=[kind for kind, _ in shown], range=[color for _, color in shown]),
        legend=alt.Legend(labelExpr="replace(datum.label, 'level', 'level ')") if legend else None,
    )


def level_color(title: str = "mastery level") -> alt.Color:
    """Encode the mastery level as one of five ordered colours."""
    return alt.Color("level:O", title=title, scale=alt.Scale(domain=[0, 1, 2, 3, 4], range=LEVEL_COLORS))


def kind_name(kind: str) -> str:
    """Return the name of a data kind as readers see it: "level 0" for level0."""
    return dict(zip(KINDS, KIND_NAMES, strict=True)).get(kind, kind)


def sizes(values: pd.Series, title: str = "training facts (log scale)") -> alt.X:
    """Encode `size` on a horizontal log axis that has a tick at each of `values`, the sizes that were run."""
    ticks = sorted(int(value) for value in values.unique())
    scale = alt.Scale(type="log", nice=False, padding=10)
    return alt.X("size:Q", title=title, scale=scale, axis=alt.Axis(values=ticks, format="d"))


def share(field: str, title: str | None, domain: Sequence[float] | None = None) -> alt.Y:
    """Encode a share from 0 to 1 on a vertical axis in percent.

    Args:
        domain: ends of the axis; by default Vega-Lite fits it to the data, without 0.
    """
    scale = alt.Scale(domain=list(domain), nice=False) if domain else alt.Scale(zero=False)
    return alt.Y(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(format="%", tickCount=5))


def axis_domain(
    *columns: pd.Series, margin: float = 0.06, floor: float | None = 0.0, top: float | None = 1.0
) -> list[float]:
    """Return the ends of an axis that shows some values.

    Args:
        columns: the values; missing ones do not count.
        margin: space beyond the extreme values, as a share of their distance.
        floor, top: the axis does not reach beyond these; None sets no limit.
    """
    values = pd.concat(columns).dropna()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    pad = max((high - low) * margin, 0.01 * max(abs(high), 1e-6))
    low, high = low - pad, high + pad
    return [low if floor is None else max(low, floor), high if top is None else min(high, max(top, low + pad))]


def spread_labels(ends: pd.DataFrame, value: str, domain: Sequence[float], height: float = HEIGHT) -> pd.DataFrame:
    """Move the labels at the ends of lines apart, so that none covers another.

    Args:
        ends: one row per label, with a column `panel`; labels of different panels do not touch.
        value: column with the height of the line's end, in data units.
        domain: ends of the vertical axis.
        height: of a panel, in pixels.

    Returns:
        `ends` with a column `label_at`: the height of the label in data units, as near to `value` as the other labels
        of its panel allow.
    """
    gap = LABEL_HEIGHT * (domain[1] - domain[0]) / height
    parts = []
    for _, group in ends.groupby("panel", sort=False):
        group = group.sort_values(value).copy()
        clusters: list[tuple[float, int]] = []  # centre and number of labels of every run of labels that touch
        for end in group[value]:
            clusters.append((float(end), 1))
            while len(clusters) > 1 and clusters[-1][0] - clusters[-2][0] < gap * sum(n for _, n in clusters[-2:]) / 2:
                (first, several), (second, more) = clusters[-2:]
                both = several + more
                clusters[-2:] = [((first * several + second * more) / both, both)]
        group["label_at"] = [
            centre + gap * (index - (labels - 1) / 2) for centre, labels in clusters for index in range(labels)
        ]
        parts.append(group)
    return pd.concat(parts) if parts else ends.assign(label_at=pd.Series(dtype=float))


def zoomed(layers: Sequence[alt.Chart], domain: Sequence[float], channel: str = "y") -> list[alt.Chart]:
    """Give all layers the same scale on one channel: a layer without a scale would extend the axis to 0.

    Args:
        domain: ends of the axis.
        channel: "x" or "y".
    """
    scale = alt.Scale(domain=list(domain), nice=False, zero=False)
    for layer in layers:
        encoded = getattr(layer.encoding, channel, alt.Undefined)
        if isinstance(encoded, alt.X | alt.Y):
            encoded["scale"] = scale
    return list(layers)


def panels(
    chart: alt.Chart | alt.LayerChart | alt.FacetChart,
    data: pd.DataFrame,
    columns: int = 2,
    sort: Sequence[str] | None = None,
    gap: int = 26,
    between: int = 84,
) -> Drawing:
    """Draw a chart once for each value of the column `panel`; a single panel needs no heading.

    Args:
        data: rows of all panels.
        columns: panels beside each other.
        sort: order of the panels; by default that of the data.
        gap: pixels between heading and panel, where a title of the vertical axis stands.
        between: pixels between panels, where names at the ends of lines stand.
    """
    if isinstance(chart, alt.FacetChart):
        raise TypeError("a chart that has panels already cannot be drawn in panels")
    order = list(sort or dict.fromkeys(data["panel"]))
    if len(order) < 2:
        return chart.properties(data=data)
    facet = alt.Facet("panel:N", title=None, sort=order, header=alt.Header(labelPadding=gap))
    return chart.facet(facet, columns=columns, data=data, spacing={"row": 34, "column": between})


def panel_names(table: pd.DataFrame, *parts: pd.Series) -> pd.Series:
    """Return a panel's heading for each row of a table: its `parts`, after the model's name if there are several."""
    columns = [table["model"]] if table["model"].nunique() > 1 else []
    columns += list(parts)
    if not columns:
        return pd.Series("", index=table.index)
    return pd.Series([", ".join(str(part) for part in row) for row in zip(*columns, strict=True)], index=table.index)
