"""Draws every figure that `contents` lists, as Vega-Lite."""

import altair as alt
import pandas as pd

from knowshift.canonical import canonical_json
from knowshift.report.contents import ELSEWHERE, FIGURES, TASKS
from knowshift.report.figures import (
    accuracy,
    confidence,
    divergence,
    elsewhere,
    flow,
    knowledge,
    mastery,
    parameters,
    restoration,
    tasks,
    theme,
    training,
    undoing,
)
from knowshift.report.frames import Frames, trained_here

# Modules that `contents` names. Each of their public functions draws one figure; it returns None if the cells that the
# figure would show were not run.
MODULES = {
    "accuracy": accuracy,
    "confidence": confidence,
    "divergence": divergence,
    "elsewhere": elsewhere,
    "flow": flow,
    "knowledge": knowledge,
    "mastery": mastery,
    "parameters": parameters,
    "restoration": restoration,
    "tasks": tasks,
    "training": training,
    "undoing": undoing,
}
OF_ALL = (ELSEWHERE, TASKS, "parameters")  # modules whose figures hold models that were fine-tuned elsewhere too
ABSENT = {"absent": True}  # `usermeta` of a figure whose cells were not run


def figures(frames: Frames) -> dict[str, str]:
    """Draw all figures, in the order of the report.

    Returns:
        By name, the figure's Vega-Lite as JSON. A figure without data is one line of text that says so.
    """
    here = trained_here(frames)
    charts = {
        entry.name: getattr(MODULES[entry.module], entry.name)(frames if entry.module in OF_ALL else here)
        for entry in FIGURES
    }
    return {name: specification(_no_data() if chart is None else chart) for name, chart in charts.items()}


def specification(chart: theme.Drawing) -> str:
    """Return the Vega-Lite of a chart in our theme as JSON, with numbers rounded to six digits and nulls left out."""
    with alt.theme.enable("none"):  # instead of Altair's default theme
        content = chart.to_dict()
    content["config"] = theme.CONFIG
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


def _no_data() -> alt.Chart:
    """Return what stands in place of a figure whose cells were not run."""
    text = pd.DataFrame({"text": ["No cell of this experiment has data for this figure."]})
    mark = alt.Chart(text, usermeta=ABSENT).mark_text(color=theme.GREY, fontSize=13)
    return mark.encode(text="text:N").properties(width=420, height=40)
