"""Churn between seeds: how often two training sets of one kind and size disagree on a fact, and what exceeds that."""

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.columns import interval_columns, known, spread, table
from knowshift.analysis.estimates import Estimate, bootstrap_means, stratum_means
from knowshift.analysis.knowledge import KNOWLEDGE
from knowshift.analysis.knowledge_schemas import CHURN
from knowshift.analysis.study import BASE, FEW_SHOT, TESTS, Study
from knowshift.mastery.schemas import LEVELS

ALL = "all"
EVENTS = {ALL: "answered", "known": "lost", "partly known": "learned", "unknown": "learned"}


def tabulate_churn(study: Study, knowledge: np.ndarray) -> pa.Table:
    """Measure what became of known and unknown facts over the seeds of each condition, in the schema `CHURN`.

    Args:
        study: The study.
        knowledge: (F,) what `knowledge_of` says of every fact of the mastery table.
    """
    rows = []
    for panel in (study.panels[name] for name in TESTS if name in study.panels):
        mine = knowledge[panel.facts]
        for group in (ALL, *KNOWLEDGE):
            chosen = np.full(panel.questions, True) if group == ALL else mine == group
            if not chosen.any():
                continue
            before = {
                "answered_before": _share(panel, BASE, chosen),
                "answered_few_shot": _share(panel, FEW_SHOT, chosen),
            }
            for condition in study.conditions:
                right = panel.correct[:, [panel.columns[key] for key in condition.answerers]][chosen]
                happened = ~right if EVENTS[group] == "lost" else right
                rng = study.rng("churn", panel.name, group)
                head = {"set": panel.name, "knowledge": group, "event": EVENTS[group], "facts": int(chosen.sum())}
                rows.append(condition.columns | head | before | measure_churn(happened, panel.strata[chosen], rng))
    return table(rows, CHURN)


def _share(panel: Panel, key: Answerer, chosen: np.ndarray) -> float | None:
    """The share of some facts that a model answers; None if it was not asked."""
    return float(panel.correct[chosen, panel.columns[key]].mean()) if key in panel else None


def measure_churn(happened: np.ndarray, strata: np.ndarray, rng: np.random.Generator) -> dict:
    """Compare what happened to facts in every seed with what chance would do, given how often it happens.

    If nothing but churn were at work, a fact of a level would be lost (or learned) anew in every seed, with the
    seed's probability for that level, whichever fact it is. Then the product of these probabilities is the share that
    it happens to in every seed; what exceeds it are facts that are lost (or learned) because of what they are.

    Args:
        happened: (N, S) whether a fact was lost, learned or answered in each of S seeds.
        strata: (N,) the mastery level of each fact.

    Returns:
        Columns of `CHURN`; those that need two seeds are None with one.
    """
    facts, seeds = happened.shape
    each = happened.mean(0)
    columns = {"seeds": seeds, "share": float(each.mean()), "spread": spread(each.tolist())}
    if seeds < 2:
        return columns
    times = happened.sum(1)
    differing = times * (seeds - times) / (seeds * (seeds - 1) / 2)  # share of the pairs of seeds that disagree
    values = np.column_stack([happened, differing, times == seeds]).astype(float)
    weights = np.bincount(strata, minlength=len(LEVELS)) / facts

    def summed(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Disagreement, share in every seed, and its expectation, from (…, 5, S + 2) means by level."""
        means = np.nan_to_num(means)
        return means[..., -2] @ weights, means[..., -1] @ weights, means[..., :seeds].prod(-1) @ weights

    value = summed(stratum_means(values, strata, len(LEVELS)))
    drawn = summed(bootstrap_means(values, strata, len(LEVELS), rng))
    disagreement = Estimate(float(value[0]), drawn[0])
    excess = Estimate(float(value[1] - value[2]), drawn[1] - drawn[2])
    in_all = {"in_every_seed": known(float(value[1])), "expected_in_every_seed": known(float(value[2]))}
    return columns | interval_columns("disagreement", disagreement) | in_all | interval_columns("excess", excess)
