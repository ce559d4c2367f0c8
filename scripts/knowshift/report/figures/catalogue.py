"""The study's figures: a name, and the function that draws it from the tables (data frames with a column `model`).

A function gives None where the cells that it would show were not run.
"""

from collections.abc import Callable, Mapping

import altair as alt
import pandas as pd

from knowshift.canonical import canonical_json
from knowshift.report.figures import accuracy, divergence, flow, mastery, parameters, theme, training

Tables = Mapping[str, pd.DataFrame]

FIGURES: dict[str, Callable[[Tables], alt.TopLevelMixin | None]] = {
    "mastery": mastery.mastery,
    "accuracy_by_size": accuracy.accuracy_by_size,
    "accuracy_by_level": accuracy.accuracy_by_level,
    "training_accuracy": accuracy.training_accuracy,
    "flow": flow.flow,
    "flow_topics": flow.flow_topics,
    "divergence": divergence.divergence,
    "correlation": divergence.correlation,
    "calibration": divergence.calibration,
    "concentration": parameters.concentration,
    "restored": parameters.restored,
    "restored_where": parameters.restored_where,
    "restored_blocks": parameters.restored_blocks,
    "strategies": accuracy.strategies,
    "loss": training.loss,
    "costs": training.costs,
}
ABSENT = {"absent": True}  # in `usermeta` of a figure whose cells were not run


def specification(chart: alt.TopLevelMixin) -> str:
    """The Vega-Lite of a chart as JSON, its data to six digits and without what is missing."""
    content = chart.to_dict()
    for name, rows in content["datasets"].items():
        content["datasets"][name] = [
            {
                key: float(f"{value:.6g}") if isinstance(value, float) else value
                for key, value in row.items()
                if value is not None
            }
            for row in rows
        ]
    return canonical_json(content)


def draw(name: str, tables: Tables) -> alt.TopLevelMixin:
    """The figure `name`; where the cells it shows were not run, a line that says so."""
    if (chart := FIGURES[name](tables)) is not None:
        return chart
    said = pd.DataFrame({"text": ["No cell of this experiment has data for this figure."]})
    mark = alt.Chart(said, usermeta=ABSENT).mark_text(color=theme.GREY, fontSize=13)
    return mark.encode(text="text:N").properties(width=420, height=40)
