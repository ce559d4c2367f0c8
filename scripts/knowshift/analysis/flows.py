"""What became of each fact: which are answered before, after fine-tuning and after restoration, and the outputs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.columns import table
from knowshift.analysis.recommendation import chosen_restoration
from knowshift.analysis.schemas import FACT_OUTPUTS, FLOWS
from knowshift.analysis.study import TESTS, Condition, RestoredCondition, Study

_STATES = ["topic", "level", "knowledge", "before", "after", "restored"]


def tabulate_flows(study: Study, topics: np.ndarray, knowledge: np.ndarray) -> pa.Table:
    """Count the facts that went each way, per run and topic, in the schema `FLOWS`.

    Args:
        study: The study.
        topics: (F,) the topic of every fact of the mastery table.
        knowledge: (F,) what `knowledge_of` says of every fact.
    """
    parts = [table([], FLOWS)]
    for condition in study.conditions:
        share = chosen_restoration(study, condition)
        for run, seed in zip(condition.runs, condition.seeds, strict=True):
            mine = share if share and run in share.runs else None
            for panel in (study.panels[name] for name in TESTS if name in study.panels):
                counts = _count(panel, study.before(condition), run, mine, topics, knowledge)
                head = {"run": run, **_head(condition, mine), "seed": seed, "set": panel.name}
                parts.append(table([head | row for row in counts], FLOWS))
    return pa.concat_tables(parts)


def _head(condition: Condition, share: RestoredCondition | None) -> dict:
    """The columns that name a condition, and what was restored of it."""
    return share.columns if share else condition.columns


def _restored_key(run: str, share: RestoredCondition) -> Answerer:
    return Answerer(run, share.strategy, share.region, share.percent)


def _count(
    panel: Panel,
    before: Answerer,
    run: str,
    share: RestoredCondition | None,
    topics: np.ndarray,
    knowledge: np.ndarray,
) -> list[dict]:
    """Numbers of a run's facts by topic, level, knowledge, and whether they are answered before, after and restored."""
    keys = [before, Answerer(run), *([_restored_key(run, share)] if share else [])]
    right = panel.correct[:, [panel.columns[key] for key in keys]]
    columns = [topics[panel.facts], panel.strata, knowledge[panel.facts], *right.T]
    frame = pd.DataFrame(dict(zip(_STATES, columns, strict=False)))
    counts = frame.groupby(list(frame), sort=True, as_index=False).agg(facts=("topic", "size"))
    return counts.to_dict("records")


def tabulate_fact_outputs(study: Study, path: Path, mastery: pa.Table, limit: int) -> pa.Table:
    """List facts with the outputs before, after and restored, in the schema `FACT_OUTPUTS`.

    Each condition of `Study.shown` is shown by one run, the first seed that was restored.

    Args:
        study: The study.
        path: The graded answers, in the schema `ANSWERS`.
        mastery: A table in the schema `MASTERY`.
        limit: The largest number of facts per run; they are drawn at random, the same ones for every run.
    """
    panels = [study.panels[name] for name in TESTS if name in study.panels]
    positions = np.concatenate([panel.facts for panel in panels])
    if len(positions) > limit:
        positions = study.rng("fact outputs").choice(positions, limit, replace=False)
    kept = set(positions.tolist())
    chosen: list[tuple[dict, list[Answerer]]] = []
    for condition in study.shown:
        share = chosen_restoration(study, condition)
        run = (share.runs if share else condition.runs)[0]
        keys = [study.before(condition), Answerer(run), *([_restored_key(run, share)] if share else [])]
        chosen.append(({"run": run, **_head(condition, share)}, keys))
    facts = mastery.select(["fact_id", "topic", "level", "question", "object"])
    shown = facts["fact_id"].take(pa.array(sorted(kept), pa.int64()))
    outputs = _outputs(path, {key for _, keys in chosen for key in keys}, shown)
    rows = []
    for head, keys in chosen:
        for panel in panels:
            for row, position in enumerate(panel.facts.tolist()):
                if position in kept:
                    fact = {name: facts[name][position].as_py() for name in facts.column_names}
                    rows.append(
                        {**head, **fact, "set": panel.name, **_states(panel, row, keys, fact["fact_id"], outputs)}
                    )
    return table(rows, FACT_OUTPUTS)


def _states(panel: Panel, row: int, keys: list[Answerer], fact: str, outputs: dict[tuple, str]) -> dict:
    """The columns of one fact: output, whether it is right, and probability, before, after and restored."""
    columns: dict = {}
    for state, key in zip(("before", "after", "restored"), keys, strict=False):
        column = panel.columns[key]
        columns[state] = outputs[(*key, panel.name, fact)]
        columns[f"{state}_correct"] = bool(panel.correct[row, column])
        columns[f"{state}_probability"] = float(np.exp(panel.logprob[row, column]))
    return columns


def _outputs(path: Path, wanted: set[Answerer], facts: pa.ChunkedArray) -> dict[tuple, str]:
    """(model, set, fact) to what some models answered to test questions."""
    columns = [*Answerer._fields, "set", "fact_id", "output"]
    some = ds.field("run").isin(pa.array([key.run for key in wanted], pa.string())) & ds.field("set").isin(list(TESTS))
    some &= ds.field("fact_id").isin(facts.combine_chunks())
    found = ds.dataset(path).to_table(columns=columns, filter=some)
    rows = zip(*(found[name].to_pylist() for name in columns), strict=True)
    return {tuple(key): output for *key, output in rows if Answerer(*key[:4]) in wanted}
