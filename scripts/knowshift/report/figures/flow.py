"""Charts of knowledge flow: what was known before, after, and with the most changed parameters put back."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from knowshift.report.figures import theme

Tables = Mapping[str, pd.DataFrame]
# (before, after, restored) -> what became of the facts; without a restored model the last is that of `after`
FATES = {
    (True, True, True): "kept", (True, True, False): "lost by restoring", (True, False, True): "regained",
    (True, False, False): "lost", (False, True, True): "learned", (False, True, False): "learned, then undone",
    (False, False, True): "learned by restoring", (False, False, False): "never known",
}  # fmt: skip
COLORS = {
    "kept": theme.KEPT, "regained": theme.REGAINED, "lost": theme.LOSS, "lost by restoring": theme.LOSS_SOFT,
    "learned": theme.GAIN, "learned by restoring": theme.GAIN_SOFT, "learned, then undone": theme.UNDONE,
    "never known": theme.UNKNOWN,
}  # fmt: skip
KNOWN = ["kept", "lost by restoring", "regained", "lost"]
UNKNOWN = ["learned", "learned by restoring", "learned, then undone", "never known"]
ALL = "all topics"
EARLY = {"learned", "lost"}  # turn between the first two stages
LATE = {"regained", "learned, then undone", "lost by restoring", "learned by restoring"}  # between the last two
STAGES = ["before", "fine-tuned", "restored"]
EDGE = 0.07  # half the width of a stage, where ribbons run level; stages are 1 apart
GAP = 0.025  # between what is known and what is not
PANELS = 6  # ribbons of more panels than these are drawn of one data kind only


def _fates(tables: Tables, sets: list[str]) -> pd.DataFrame:
    """Facts by model, data kind, topic and fate, of full fine-tuning at one size per kind, restored runs where there are."""
    table = tables["flows"]
    table = table[table["set"].isin(sets) & table["data"].notna()]
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


def flow(tables: Tables) -> alt.Chart | None:
    """Ribbons from what is known before over what is known after to what is known when restored; of in-domain tests."""
    table = _fates(tables, ["test"])
    if table.empty:
        return None
    if len(table[["model", "data"]].drop_duplicates()) > PANELS:
        kind = "mixed" if (table["data"] == "mixed").any() else table["data"].iloc[0]
        table = table[table["data"] == kind]
    stages = STAGES if table["has_restored"].any() else STAGES[:2]
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
            head = {"model": model, "kind": theme.kind_name(data), "topic": topic}
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
    x = alt.X("x:Q", title=None, scale=alt.Scale(domain=[-EDGE, len(stages) - 1 + EDGE], nice=False),
              axis=alt.Axis(values=list(range(len(stages))), domain=False, ticks=False, labelPadding=6,
                            labelExpr=f"{stages}[datum.value]"))  # fmt: skip
    y = alt.Y("low:Q", title=None, axis=None, scale=alt.Scale(domain=[0, 1 + GAP], nice=False))
    shown = [fate for fate in COLORS if fate in set(rows["fate"])]
    color = alt.Color("fate:N", title=None, scale=alt.Scale(domain=shown, range=[COLORS[fate] for fate in shown]),
                      legend=alt.Legend(columns=4, symbolType="square"))  # fmt: skip
    tip = [alt.Tooltip("fate:N"), alt.Tooltip("facts:Q"), alt.Tooltip("share:Q", format=".1%")]
    here = alt.Chart().transform_filter("datum.topic == topic")
    ribbon = here.transform_filter("isValid(datum.low)")
    layers = [
        ribbon.mark_area(interpolate="monotone", opacity=0.8).encode(x=x, y=y, y2="high:Q", color=color, detail="fate:N", tooltip=tip),
        here.transform_filter("isValid(datum.at) && datum.share >= 0.07")
        .mark_text(color="white", fontSize=11)
        .encode(x=alt.X("x:Q"), y="at:Q", text="text:N"),
        here.transform_filter("isValid(datum.top)")
        .mark_text(baseline="bottom", dy=-3, fontSize=11)
        .encode(x=alt.X("x:Q"), y=alt.value(0), text="text:N"),
    ]  # fmt: skip
    chart = alt.layer(*layers).add_params(picked).properties(width=width, height=190)
    return theme.panels(chart, rows, columns=columns, gap=20, between=44)


def _ribbons(fates: Mapping[str, int], stages: int) -> tuple[list[dict], list[dict], list[dict]]:
    """The outlines of the ribbons, names on them, and what is known at each stage."""
    total = sum(fates.values())
    of = {fate: states for states, fate in FATES.items()}
    edges: dict[str, list[tuple[float, float]]] = {fate: [] for fate in fates}
    nodes = []
    for stage in range(stages):
        order = sorted(fates, key=lambda fate: (not of[fate][stage], [not state for state in of[fate]]))
        at, known = 0.0, sum(fates[fate] for fate in fates if of[fate][stage]) / total
        for fate in order:
            start = at if of[fate][stage] else at + GAP
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
        # A name stands where its ribbon turns: in the middle where it does not.
        place = 1.5 if fate in LATE else 0.5 if fate in EARLY else (stages - 1) / 2
        left, right = spans[int(place)], spans[min(int(place + 0.5), stages - 1)]
        centre = round((sum(left) + sum(right)) / 4, 4)
        names.append({"fate": fate, "x": place, "at": centre, "share": round(share, 4), "text": fate})
    return ribbons, names, nodes


def flow_topics(tables: Tables) -> alt.Chart | None:
    """What became of the facts of each topic: of those known before, and of those unknown."""
    table = _fates(tables, ["test", "test_ood"])
    if table.empty:
        return None
    kinds = [kind for kind in theme.KINDS if kind in set(table["data"])]
    chosen = "mixed" if "mixed" in kinds else kinds[0]
    table = table.groupby(["model", "data", "topic", "fate", "before"], as_index=False, sort=False)["facts"].sum()
    table["kind"] = table["data"].map(theme.kind_name)
    total = table.groupby(["model", "data", "topic", "before"])["facts"].transform("sum")
    table["share"] = table["facts"] / total
    table["of"] = total
    table["rank"] = table["fate"].map((KNOWN + UNKNOWN).index)
    names = [theme.kind_name(kind) for kind in kinds]
    picked = alt.param(
        name="kind", value=theme.kind_name(chosen), bind=alt.binding_select(options=names, name="training data ")
    )
    shown = [fate for fate in COLORS if fate in set(table["fate"])]
    color = alt.Color("fate:N", title=None, scale=alt.Scale(domain=shown, range=[COLORS[fate] for fate in shown]),
                      legend=alt.Legend(columns=4, symbolType="square"))  # fmt: skip
    charts = []
    for model in dict.fromkeys(table["model"]):
        for before, heading in ((True, "known before"), (False, "unknown before")):
            rows = table[(table["model"] == model) & (table["before"] == before)].drop(
                columns=["model", "before", "data"]
            )
            title = f"{model}, {heading}" if table["model"].nunique() > 1 else heading
            x = alt.X("share:Q", title="share of them", stack="zero", scale=alt.Scale(domain=[0, 1]),
                      axis=alt.Axis(format="%", tickCount=4, grid=True))  # fmt: skip
            y = alt.Y("topic:N", title=None, axis=alt.Axis(labelLimit=130))
            base = alt.Chart(rows).transform_filter("datum.kind == kind")
            tip = ["topic:N", "fate:N", "facts:Q", alt.Tooltip("share:Q", format=".1%")]
            bars = base.mark_bar(height={"band": 0.75}).encode(x=x, y=y, color=color, order="rank:Q", tooltip=tip)
            count = base.transform_aggregate(of="max(of)", groupby=["topic"]).mark_text(align="left", dx=5, fontSize=11)
            count = count.encode(x=alt.datum(1), y=y, text=alt.Text("of:Q"))
            charts.append(alt.layer(bars, count).properties(width=196, height=alt.Step(20), title=title))
    return alt.concat(*charts, columns=2, spacing={"row": 30, "column": 44}).add_params(picked)
