"""Charts of knowledge flow: which facts were known before fine-tuning, after it, and with parameters restored."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from knowshift.report.figures import theme
from knowshift.report.frames import Frames

# What became of a fact, by whether it was known (and not unknown) before training, going by its mastery, and whether
# the fine-tuned and the restored model answer it. Where nothing was restored, the last repeats `after`.
FATES = {
    (True, True, True): "kept",
    (True, True, False): "lost by restoring",
    (True, False, True): "regained",
    (True, False, False): "lost",
    (False, True, True): "learned",
    (False, True, False): "learned, then undone",
    (False, False, True): "learned by restoring",
    (False, False, False): "never known",
}
# The order of bars: fates of facts that were known before, then of those that were not.
BAR_ORDER = [
    "kept",
    "lost by restoring",
    "regained",
    "lost",
    "learned",
    "learned by restoring",
    "learned, then undone",
    "never known",
]
ALL = "all topics"
EARLY = {"learned", "lost"}  # fates decided between the first two stages
LATE = {"regained", "learned, then undone", "lost by restoring", "learned by restoring"}  # between the last two
EDGE = 0.07  # half the width of a stage, where ribbons run level; stages are 1 apart
GAP = 0.025  # between facts that are known and facts that are not; all facts together are 1 high
MAX_PANELS = 6  # if `flow` had more panels, it draws one data kind only


def _fates(frames: Frames, sets: list[str]) -> pd.DataFrame:
    """Return numbers of facts with their fate, of one method and of the largest size of each data kind.

    Facts that were partly known before do not count. The method is full fine-tuning if it was run. If some runs of a
    model were restored, the others do not count.

    Args:
        sets: sets of questions.

    Returns:
        Rows of the table of flows, with two more columns: `fate`, and `has_restored`.
    """
    table = frames["flows"]
    table = table[table["set"].isin(sets) & table["data"].notna() & table["knowledge"].isin(["known", "unknown"])]
    table = table.assign(before=table["knowledge"] == "known")
    table = table[table["method"] == ("full" if (table["method"] == "full").any() else table["method"].max())].copy()
    if table.empty:
        return table
    keys = ["model", "data"]
    some = table["restored"].notna()
    table = table[some | ~table["model"].isin(set(table[some]["model"]))]
    size = table.groupby(keys)["size"].transform("max")
    table = table[table["size"] == size].copy()
    last = table["restored"].where(table["restored"].notna(), table["after"]).astype(bool)
    table["fate"] = [
        FATES[key] for key in zip(table["before"].astype(bool), table["after"].astype(bool), last, strict=True)
    ]
    table["has_restored"] = table["restored"].notna()
    table["percent"] = table["percent"].astype(float)
    return table


def flow(frames: Frames) -> theme.Drawing | None:
    """Draw how in-domain test facts move between known and unknown, as ribbons across the states of a model.

    A panel per data kind; a menu chooses the topic.
    """
    table = _fates(frames, ["test"])
    if table.empty:
        return None
    if len(table[["model", "data"]].drop_duplicates()) > MAX_PANELS:
        kind = "mixed" if (table["data"] == "mixed").any() else table["data"].iloc[0]
        table = table[table["data"] == kind]
    stages = list(theme.STATE_NAMES.values())[: 3 if table["has_restored"].any() else 2]
    table = table.sort_values("data", kind="stable", key=lambda column: column.map(theme.KINDS.index))
    ribbons, names, nodes = [], [], []
    topics = sorted(table["topic"].unique())
    for (model, data), group in table.groupby(["model", "data"], sort=False):
        counts = group.groupby(["topic", "fate"])["facts"].sum()
        totals = {
            ALL: group.groupby("fate")["facts"].sum(),
            **{topic: counts[topic] for topic in topics if topic in counts},
        }
        for topic, fates in totals.items():
            head = {"model": model, "kind": theme.kind_name(str(data)), "topic": topic}
            ribbon, name, node = _ribbons(fates.to_dict(), len(stages))
            ribbons += [{**head, **row} for row in ribbon]
            names += [{**head, **row} for row in name]
            nodes += [{**head, **row} for row in node]
    rows = pd.concat([pd.DataFrame(ribbons), pd.DataFrame(names), pd.DataFrame(nodes)])
    rows["panel"] = theme.panel_names(rows, rows["kind"])
    rows = rows.drop(columns=["model", "kind"])
    count = rows["panel"].nunique()
    columns = 3 if count > 2 else count
    width = {1: theme.WIDE, 2: 280}.get(columns, 176)
    picked = alt.param(name="topic", value=ALL, bind=alt.binding_select(options=[ALL, *topics], name="topic "))
    x = alt.X(
        "x:Q",
        title=None,
        scale=alt.Scale(domain=[-EDGE, len(stages) - 1 + EDGE], nice=False),
        axis=alt.Axis(
            values=list(range(len(stages))),
            domain=False,
            ticks=False,
            labelPadding=6,
            labelExpr=f"{stages}[datum.value]",
        ),
    )
    y = alt.Y("low:Q", title=None, axis=None, scale=alt.Scale(domain=[0, 1 + GAP], nice=False))
    shown = [fate for fate in theme.FATE_COLORS if fate in set(rows["fate"])]
    color = alt.Color(
        "fate:N",
        title=None,
        scale=alt.Scale(domain=shown, range=[theme.FATE_COLORS[fate] for fate in shown]),
        legend=alt.Legend(columns=4, symbolType="square"),
    )
    tip = [alt.Tooltip("fate:N"), alt.Tooltip("facts:Q"), alt.Tooltip("share:Q", format=".1%")]
    here = alt.Chart().transform_filter("datum.topic == topic")
    ribbon = here.transform_filter("isValid(datum.low)")
    layers = [
        ribbon.mark_area(interpolate="monotone", opacity=0.8).encode(
            x=x, y=y, y2="high:Q", color=color, detail="fate:N", tooltip=tip
        ),
        here.transform_filter("isValid(datum.at) && datum.share >= 0.07")
        .mark_text(color="white", fontSize=11)
        .encode(x=alt.X("x:Q"), y="at:Q", text="text:N"),
        here.transform_filter("isValid(datum.top)")
        .mark_text(baseline="bottom", dy=-3, fontSize=11)
        .encode(x=alt.X("x:Q"), y=alt.value(0), text="text:N"),
    ]
    chart = alt.layer(*layers).add_params(picked).properties(width=width, height=190)
    return theme.panels(chart, rows, columns=columns, gap=20, between=44)


def _ribbons(fates: Mapping[str, int], stages: int) -> tuple[list[dict], list[dict], list[dict]]:
    """Compute one panel of ribbons: heights are shares of all facts, stages stand at x = 0, 1, 2.

    Args:
        fates: number of facts of each fate.
        stages: number of stages, 2 or 3.

    Returns:
        Three lists of rows: points on the outlines of the ribbons (lower and upper height at x), names of the ribbons
        with their position, and the share of facts that is known at each stage.
    """
    total = sum(fates.values())
    states_of = {fate: states for states, fate in FATES.items()}
    edges: dict[str, list[tuple[float, float]]] = {fate: [] for fate in fates}
    nodes = []
    for stage in range(stages):
        order = sorted(fates, key=lambda fate: (not states_of[fate][stage], [not state for state in states_of[fate]]))
        at, known = 0.0, sum(fates[fate] for fate in fates if states_of[fate][stage]) / total
        for fate in order:
            start = at if states_of[fate][stage] else at + GAP
            edges[fate].append((start, start + fates[fate] / total))
            at += fates[fate] / total
        nodes.append({"x": stage, "top": known, "text": f"{100 * known:.0f} %"})
    ribbons, names = [], []
    for fate, spans in edges.items():
        share = fates[fate] / total
        head = {"fate": fate, "facts": int(fates[fate]), "share": round(share, 4)}
        for stage, (low, high) in enumerate(spans):
            for side in (-EDGE, EDGE):
                ribbons.append({**head, "x": stage + side, "low": round(low, 4), "high": round(high, 4)})
        # A ribbon bears its name where it turns, or in the middle if it does not turn.
        middle = 1.5 if fate in LATE else 0.5 if fate in EARLY else (stages - 1) / 2
        left, right = spans[int(middle)], spans[min(int(middle + 0.5), stages - 1)]
        centre = round((sum(left) + sum(right)) / 4, 4)
        names.append({"fate": fate, "x": middle, "at": centre, "share": round(share, 4), "text": fate})
    return ribbons, names, nodes


def flow_topics(frames: Frames) -> theme.Drawing | None:
    """Draw the share of facts of each fate, a bar per topic: of facts known before, and of facts unknown before."""
    table = _fates(frames, ["test", "test_ood"])
    if table.empty:
        return None
    kinds = [kind for kind in theme.KINDS if kind in set(table["data"])]
    chosen = "mixed" if "mixed" in kinds else kinds[0]
    table = table.groupby(["model", "data", "topic", "fate", "before"], as_index=False, sort=False)["facts"].sum()
    table["kind"] = table["data"].map(theme.kind_name)
    total = table.groupby(["model", "data", "topic", "before"])["facts"].transform("sum")
    table["share"] = table["facts"] / total
    table["of"] = total
    table["rank"] = table["fate"].map(BAR_ORDER.index)
    names = [theme.kind_name(kind) for kind in kinds]
    picked = alt.param(
        name="kind", value=theme.kind_name(chosen), bind=alt.binding_select(options=names, name="training data ")
    )
    shown = [fate for fate in theme.FATE_COLORS if fate in set(table["fate"])]
    color = alt.Color(
        "fate:N",
        title=None,
        scale=alt.Scale(domain=shown, range=[theme.FATE_COLORS[fate] for fate in shown]),
        legend=alt.Legend(columns=4, symbolType="square"),
    )
    charts = []
    for model in dict.fromkeys(table["model"]):
        for before, heading in ((True, "known before (R > 50 %)"), (False, "unknown before (R = 0)")):
            rows = table[(table["model"] == model) & (table["before"] == before)].drop(
                columns=["model", "before", "data"]
            )
            title = f"{model}, {heading}" if table["model"].nunique() > 1 else heading
            x = alt.X(
                "share:Q",
                title="share of them",
                stack="zero",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%", tickCount=4, grid=True),
            )
            y = alt.Y("topic:N", title=None, axis=alt.Axis(labelLimit=130))
            base = alt.Chart(rows).transform_filter("datum.kind == kind")
            tip = ["topic:N", "fate:N", "facts:Q", alt.Tooltip("share:Q", format=".1%")]
            bars = base.mark_bar(height={"band": 0.75}).encode(x=x, y=y, color=color, order="rank:Q", tooltip=tip)
            count = base.transform_aggregate(of="max(of)", groupby=["topic"]).mark_text(align="left", dx=5, fontSize=11)
            count = count.encode(x=alt.datum(1), y=y, text=alt.Text("of:Q"))
            charts.append(alt.layer(bars, count).properties(width=196, height=alt.Step(20), title=title))
    return alt.concat(*charts, columns=2, spacing={"row": 30, "column": 44}).add_params(picked)
