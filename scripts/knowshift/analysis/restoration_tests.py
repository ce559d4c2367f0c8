"""Every restored model tested against the same model with nothing restored, on the same questions."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.columns import estimate_columns, interval_columns, known, table
from knowshift.analysis.estimates import Estimate, holm, mean_of, permutation_p, permutations_for
from knowshift.analysis.schemas import RESTORATIONS
from knowshift.analysis.study import RestoredCondition, Study


def tabulate_restorations(study: Study, concentration: pd.DataFrame) -> pa.Table:
    """Compare every restored condition with the same runs unrestored, in the schema `RESTORATIONS`.

    Args:
        study: The study.
        concentration: A table in the schema `CONCENTRATION`.
    """
    held, rows, restorations = shares_held(concentration), [], _with_zero(study)
    permutations = permutations_for(sum(one.percent > 0 for one in restorations))
    for name, panel in study.panels.items():
        mine = [_compare(study, panel, restoration, permutations) for restoration in restorations]
        rows += _corrected([row | {"set": name} for row in mine])
    if study.trained:
        here = [one for one in restorations if all(run in study.trained for run in one.runs)]
        mine = [_compare_trained(study, restoration, permutations) for restoration in here]
        rows += _corrected([row | {"set": "training_set"} for row in mine])
    for row in rows:
        row["undone"] = mean_undone(held, row.pop("restored"))
    return table(rows, RESTORATIONS)


def _with_zero(study: Study) -> list[RestoredCondition]:
    """All restored conditions; each sweep over shares begins with 0 %, where nothing is restored."""
    sweeps: dict[tuple, list[RestoredCondition]] = {}
    for one in study.restorations:
        sweeps.setdefault((one.condition, one.strategy, one.region), []).append(one)
    found = []
    for (condition, strategy, region), sweep in sweeps.items():
        zero = [] if sweep[0].percent == 0 else [RestoredCondition(condition, strategy, region, 0.0, sweep[0].runs)]
        found += [*zero, *sweep]
    return found


def shares_held(
    concentration: pd.DataFrame, measure: str = "share_without_zeros"
) -> dict[tuple[str, str, float], float]:
    """(run, region, percent) to the share of a summed change that the most changed parameters hold.

    Args:
        concentration: A table in the schema `CONCENTRATION`.
        measure: The column of the share; the default is of the summed relative change.
    """
    columns = (concentration[name] for name in ("run", "region", "percent", measure))
    return {(run, region, percent): share for run, region, percent, share in zip(*columns, strict=True)}


def mean_undone(held: Mapping[tuple[str, str, float], float], restored: RestoredCondition) -> float | None:
    """The share of the summed relative change that is undone, mean over runs; None if it is not known for all of them.

    Args:
        held: As `shares_held` gives it.
        restored: The restored condition.
    """
    if restored.percent in (0, 100) or STRATEGY_TRAITS[restored.strategy].proportional:
        return restored.percent / 100
    shares = [held.get((run, restored.region, restored.percent)) for run in restored.runs]
    known_shares = [share for share in shares if share is not None]
    if restored.strategy != "top" or len(known_shares) < len(shares):
        return None
    return float(np.mean(known_shares))


def _compare(study: Study, panel: Panel, restoration: RestoredCondition, permutations: int) -> dict:
    """The row of a restored condition on a set of held-out questions."""
    unrestored = restoration.unrestored
    restored = restoration.answerers if restoration.percent else unrestored
    differences = panel.differences(restored, unrestored)
    each = [panel.headline([key]) for key in restored]
    before = panel.headline(unrestored)
    p = None
    if restoration.percent and not np.isnan(before.value):
        rng = study.rng("permutation", panel.name, *map(str, restoration.columns.values()))
        p = permutation_p(differences.mean(1), panel.weights, rng, permutations)
    return _restoration_row(restoration, panel.questions, each, before, differences, p)


def _compare_trained(study: Study, restoration: RestoredCondition, permutations: int) -> dict:
    """The row of a restored condition on the training sets of its runs.

    A fact may stand in the training sets of several runs; its differences get one sign together in the permutation.
    """
    given, runs = study.answers["training_set"], restoration.runs
    keys = restoration.answerers if restoration.percent else restoration.unrestored
    each = [study.trained[run][key] for run, key in zip(runs, keys, strict=True)]
    before = mean_of([study.trained[run][Answerer(run)] for run in runs])
    apart = [
        given[key].correct.astype(np.int8) - given[Answerer(run)].correct for run, key in zip(runs, keys, strict=True)
    ]
    weights = np.concatenate([np.full(len(part), 1 / (len(apart) * len(part))) for part in apart])
    differences = np.concatenate(apart)
    facts = np.concatenate([given[Answerer(run)].facts for run in runs])
    by_fact = np.bincount(np.unique(facts, return_inverse=True)[1], differences * weights)
    rng = study.rng("permutation", "training_set", *map(str, restoration.columns.values()))
    p = permutation_p(by_fact, np.ones(len(by_fact)), rng, permutations) if restoration.percent else None
    return _restoration_row(restoration, max(map(len, apart)), each, before, differences, p)


def _restoration_row(
    restoration: RestoredCondition,
    questions: int,
    each: list[Estimate],
    before: Estimate,
    differences: np.ndarray,
    p: float | None,
) -> dict:
    return {
        **restoration.columns,
        "restored": restoration,
        "seeds": len(each),
        "questions": questions,
        **estimate_columns("accuracy", each),
        "unrestored": known(before.value),
        **interval_columns("gain", mean_of(each) - before),
        "gained": int((differences > 0).sum()),
        "lost": int((differences < 0).sum()),
        "p": p,
    }


def _corrected(family: list[dict]) -> list[dict]:
    """The rows of one family of tests, with their p values corrected for its size."""
    corrected = holm(np.array([np.nan if row["p"] is None else row["p"] for row in family]))
    return [row | {"p_corrected": known(value)} for row, value in zip(family, corrected, strict=True)]
