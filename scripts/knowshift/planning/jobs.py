"""Counts the jobs of every rule."""

from collections.abc import Mapping
from typing import Any

from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.facts.source_rows import PROBED_SPLITS
from knowshift.planning.fact_counts import TopicSize
from knowshift.planning.planned_model import PlannedModel

# Rules with one job however large the grid is, and rules with one job for each model.
TABLE_RULES = ("join_tables", "tabulate_costs", "tabulate_facts", "tabulate_published", "print_tables")
ONCE = (*TABLE_RULES, "plot", "report", "all")
PER_MODEL = ("resolve_model", "grade_mastery", "count_levels", "evaluate_base", "tabulate_model", "analyse_model")


def shared_jobs(experiment: Any, topics: Mapping[str, TopicSize]) -> dict[str, int]:
    """Count the jobs by rule that all models share."""
    retrieved = {"retrieve_entityquestions": 1} if experiment.facts.source == "archive" else {}
    return dict.fromkeys(ONCE, 1) | {"build_facts": len(topics)} | retrieved


def probing_jobs(topics: Mapping[str, TopicSize]) -> int:
    """Count the jobs that probe a model: one for each topic and split."""
    return sum(len(PROBED_SPLITS[topic.domain]) for topic in topics.values())


def model_jobs(model: PlannedModel, topics: Mapping[str, TopicSize]) -> dict[str, int]:
    """Count the jobs by rule that belong to one model."""
    experiment = model.experiment
    instruct = int(experiment.models[model.name].instruct is not None)
    tasks = len(experiment.tasks)
    kept = len(model.kept_deltas) if model.passing_deltas else 0
    return {
        **dict.fromkeys(PER_MODEL, 1),
        "resolve_instruct": instruct,
        "probe_mastery": probing_jobs(topics),
        "evaluate_instruct": instruct,
        "draw_order": len(model.orders),
        "finetune": len(model.trained),
        "resolve_tuned": len(model.elsewhere),
        "diff_weights": len(model.with_delta) + len(model.elsewhere) - kept,
        "keep_delta": kept,
        "measure_changes": _histograms(model),
        "evaluate": len(model.runs),
        "measure_divergence": len(model.compared),
        "evaluate_restored": model.sweeps,
        "keep_restored": len(model.restored),
        "evaluate_base_tasks": tasks,
        "evaluate_tasks": tasks * len(model.runs),
        "keep_restored_task": tasks * len(model.restored_with_tasks),
        "export_model": len(model.exports),
    }


def _histograms(model: PlannedModel) -> int:
    """Count the pairs of a run and a region whose relative changes are measured."""
    pairs = {(cell, region) for cell in model.runs for region in model.experiment.regions}
    pairs |= {(other.cell, other.region) for other in model.restored if STRATEGY_TRAITS[other.strategy].from_histogram}
    return len(pairs)
