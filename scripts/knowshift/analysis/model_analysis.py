"""The analysis of one model: intervals, tests and verdicts, from graded answers and the model's tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.allowed_values import Writing
from knowshift.analysis.answer_matrix import read_answers
from knowshift.analysis.churn import tabulate_churn
from knowshift.analysis.claims import tabulate_claims
from knowshift.analysis.confidence import tabulate_confidence
from knowshift.analysis.fates import tabulate_fates
from knowshift.analysis.flows import tabulate_fact_outputs, tabulate_flows
from knowshift.analysis.knowledge import knowledge_of
from knowshift.analysis.level_reliability import tabulate_level_reliability
from knowshift.analysis.loss_curves import tabulate_loss
from knowshift.analysis.recommendation import recommend, tabulate_strategies
from knowshift.analysis.restoration_tests import tabulate_restorations
from knowshift.analysis.restored_locations import tabulate_where
from knowshift.analysis.right_answers import tabulate_right_answers
from knowshift.analysis.run_schemas import CONCENTRATION, RESTORED_WHERE, TRAINING_LOSS
from knowshift.analysis.scores import tabulate_scores, tabulate_scores_by_level
from knowshift.analysis.shifts import measure_shifts, tabulate_shifts
from knowshift.analysis.study import Study
from knowshift.analysis.task_scores import read_task_scores
from knowshift.analysis.task_trade import tabulate_trade
from knowshift.analysis.training_topics import tabulate_training_topics
from knowshift.analysis.undoing import tabulate_rules, tabulate_undoing
from knowshift.analysis.wrong_answers import tabulate_wrong_answers
from knowshift.evaluation.schemas import DIVERGENCE
from knowshift.mastery.schemas import MASTERY
from knowshift.runtime.parquet import read_table


def analyse_model(
    tables: Path,
    cells: pa.Table,
    mastery_path: Path,
    divergences: Sequence[Path],
    orders: Sequence[Path],
    folder: str,
    *,
    matching: str,
    seed: int,
    facts: int,
    tasks: Mapping[str, Mapping[str, Any]],
    writings: Sequence[Writing] = (),
    trainings: Mapping[str, str] | None = None,
) -> dict[str, pa.Table]:
    """Make the tables of `ANALYSES`.

    Args:
        tables: The folder of the model's tables, graded answers among them.
        cells: The cells of the grid, in the schema `CELLS`.
        mastery_path: The mastery table.
        divergences: `RUN/divergence.parquet` of the runs.
        orders: `DATA-sSEED.parquet`, the orders of training facts.
        folder: The model's folder of results, as the command that exports a model names it.
        matching: The matching rule that decides which answers are right.
        seed: The experiment's seed.
        facts: The largest number of facts whose outputs are kept, per run.
        tasks: Task to its `metric` and `tolerance`.
        writings: Which ways to write one name count as one.
        trainings: Method to the way in which it trains otherwise than full fine-tuning does.
    """
    mastery = read_table(mastery_path, MASTERY)
    topics = np.array(mastery["topic"].to_pylist(), object)
    knowledge = knowledge_of(mastery["mastery"].to_numpy())
    fact_ids, graded = mastery["fact_id"].to_pylist(), tables / "answers.parquet"
    answers = read_answers(graded, matching, fact_ids)
    scores = read_task_scores(tables / "task_answers.parquet", tasks, seed)
    study = Study(cells.to_pandas(), answers, mastery["level"].to_numpy(), seed, scores)
    concentration = read_table(tables / "concentration.parquet", CONCENTRATION).to_pandas()
    losses = read_table(tables / "training_loss.parquet", TRAINING_LOSS).to_pandas()
    where = read_table(tables / "restored_where.parquet", RESTORED_WHERE).to_pandas()
    shifts = measure_shifts(study, _read_divergences(divergences, fact_ids))
    shift_table, correlations = tabulate_shifts(study, shifts)
    right_answer_bins, right_answer_gaps = tabulate_right_answers(study)
    confidence_bins, confidence_errors = tabulate_confidence(study, graded, matching)
    restored_layers, restored_modules = tabulate_where(study, where)
    reliability, regression = tabulate_level_reliability(mastery)
    undoing, undoing_ways = tabulate_undoing(study, knowledge, trainings)
    return {
        "scores": tabulate_scores(study, topics),
        "scores_by_level": tabulate_scores_by_level(study),
        "shifts": shift_table,
        "correlations": correlations,
        "restorations": tabulate_restorations(study, concentration),
        "undoing": undoing,
        "undoing_ways": undoing_ways,
        "undoing_rules": tabulate_rules(study, concentration),
        "strategies": tabulate_strategies(study),
        "restored_layers": restored_layers,
        "restored_modules": restored_modules,
        "flows": tabulate_flows(study, topics, knowledge),
        "churn": tabulate_churn(study, knowledge),
        "wrong_answers": tabulate_wrong_answers(study, graded, mastery, matching, writings),
        "fates": tabulate_fates(study, topics),
        "training_topics": tabulate_training_topics(study, orders),
        "level_reliability": reliability,
        "level_regression": regression,
        "fact_outputs": tabulate_fact_outputs(study, graded, mastery, facts),
        "right_answer_bins": right_answer_bins,
        "right_answer_gaps": right_answer_gaps,
        "confidence_bins": confidence_bins,
        "confidence_errors": confidence_errors,
        "loss_curves": tabulate_loss(study, losses),
        "claims": tabulate_claims(study, shifts, concentration),
        "recommendation": recommend(study, folder),
        "task_trade": tabulate_trade(study),
    }


def _read_divergences(paths: Sequence[Path], fact_ids: Sequence[str]) -> dict[str, pd.Series]:
    """Run to the divergence of its facts in nats, by row number in the mastery table."""
    positions = pd.Index(fact_ids)
    found = {}
    for path in paths:
        measured = read_table(path, DIVERGENCE)
        rows = positions.get_indexer(measured["fact_id"].to_pylist())
        found[path.parent.name] = pd.Series(measured["kl"].to_numpy(), rows)
    return found
