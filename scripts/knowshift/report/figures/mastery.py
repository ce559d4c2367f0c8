"""The chart of how well facts are known before training."""

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.frames import Frames

# Headings of the panels, by domain and split, in their order.
PANEL_TITLES = {
    ("in_domain", "train"): "in-domain, train",
    ("in_domain", "test"): "in-domain, test",
    ("out_of_domain", "test"): "out-of-domain, test",
}
# Sets of facts as the paper's tables name them, with our domain and split.
PUBLISHED_SETS = {"train": ("in_domain", "train"), "test": ("in_domain", "test"), "test_ood": ("out_of_domain", "test")}
ALL, AS_PUBLISHED = "all topics", "published"  # rows above those of the topics


def mastery(frames: Frames) -> theme.Drawing | None:
    """Draw the share of facts at each mastery level, a bar per topic; all topics and published shares come first."""
    counts = frames["mastery"]
    if counts.empty or not counts["facts"].sum():
        return None
    counts = counts[["model", "domain", "split", "topic", "level", "facts"]]
    together = (
        counts.groupby(["model", "domain", "split", "level"], as_index=False, sort=False)["facts"]
        .sum()
        .assign(topic=ALL)
    )
    rows = frames["published"]
    rows = rows[
        (rows["source"] == "mastery_distribution") & rows["of"].notna() & rows["set"].isin(list(PUBLISHED_SETS))
    ]
    published = pd.DataFrame(
        {
            "model": rows["of"],
            "domain": rows["set"].map({name: domain for name, (domain, _) in PUBLISHED_SETS.items()}),
            "split": rows["set"].map({name: split for name, (_, split) in PUBLISHED_SETS.items()}),
            "topic": AS_PUBLISHED,
            "level": rows["level"].astype("int64"),
            "facts": rows["value"],
        }
    )
    table = pd.concat([together, published, counts]) if len(published) else pd.concat([together, counts])
    table["share"] = table["facts"] / table.groupby(["model", "domain", "split", "topic"])["facts"].transform("sum")
    table = table.dropna(subset=["share"])
    table = table[[key in PANEL_TITLES for key in zip(table["domain"], table["split"], strict=True)]]
    table["split"] = pd.Series(list(zip(table["domain"], table["split"], strict=True)), index=table.index).map(
        PANEL_TITLES
    )
    order = {"model": list(dict.fromkeys(counts["model"])), "split": list(PANEL_TITLES.values())}
    table = table.sort_values(
        ["model", "split"], kind="stable", key=lambda column: column.map(order[str(column.name)].index)
    )
    table["panel"] = theme.panel_names(table, table["split"])
    topics = sorted(set(table["topic"]) - {ALL, AS_PUBLISHED})
    table = table[["panel", "topic", "level", "facts", "share"]]
    columns = 2 if len(order["model"]) == 1 else 3  # of several models, a row each
    charts = []
    for panel in dict.fromkeys(table["panel"]):
        bars = alt.Chart(table[table["panel"] == panel].drop(columns="panel")).mark_bar(height={"band": 0.78})
        bars = bars.encode(
            x=alt.X(
                "share:Q",
                title=None,
                stack="zero",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%", tickCount=5 if columns == 2 else 2, grid=True),
            ),
            y=alt.Y("topic:N", title=None, sort=[ALL, AS_PUBLISHED, *topics], axis=alt.Axis(labelLimit=150)),
            color=theme.level_color(),
            order=alt.Order("level:O"),
            tooltip=[
                "topic:N",
                alt.Tooltip("level:O", title="mastery level"),
                "facts:Q",
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
        charts.append(bars.properties(width=(theme.PANEL - 20) * 2 // columns, height=alt.Step(20), title=panel))
    return alt.concat(*charts, columns=columns, spacing={"row": 30, "column": 40})
