"""Says what an experiment will take before it runs: jobs, tokens, bytes and GPU-hours.

A plan is counted from the configuration and from the sizes of topics and models (`inventory.py`); nothing is loaded or
run. What is not known yet is assumed: all cells are feasible, and facts are spread evenly over the mastery levels.
Numbers of generated tokens are upper bounds, because a model may stop early.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from knowshift.planning.accelerators import Accelerator
from knowshift.planning.disk import disk_bytes, temporary_bytes
from knowshift.planning.fact_counts import TopicSize
from knowshift.planning.gpu_work import RuleWork, gpu_work
from knowshift.planning.jobs import model_jobs, probing_jobs, shared_jobs
from knowshift.planning.planned_model import ModelSize, PlannedModel


@dataclass
class Plan:
    """What an experiment will take.

    Attributes:
        jobs: number of jobs by rule.
        work: GPU work of every rule and model, most GPU-hours first.
        disk: bytes that stay on disk, by kind of file.
        temporary: bytes that one fine-tuning of the largest model takes on top of that while it runs.
        cells: number of fine-tuned models.
        infeasible: number of cells that have too few facts.
        levels_unknown: names of the models whose mastery levels are not known.
    """

    jobs: Counter[str] = field(default_factory=Counter)
    work: list[RuleWork] = field(default_factory=list)
    disk: Counter[str] = field(default_factory=Counter)
    temporary: float = 0
    cells: int = 0
    infeasible: int = 0
    levels_unknown: list[str] = field(default_factory=list)


def make_plan(
    experiment: Any, topics: Mapping[str, TopicSize], models: Mapping[str, ModelSize], accelerator: Accelerator
) -> Plan:
    """Count what an experiment will take.

    Args:
        experiment: the checked configuration.
        topics: size of every topic by name.
        models: size of every model by name.
        accelerator: the GPU that GPU-hours are counted in.
    """
    plan = Plan()
    plan.jobs.update(shared_jobs(experiment, topics))
    for name, size in models.items():
        model = PlannedModel(experiment, name, size, topics)
        work = gpu_work(model, probing_jobs(topics), accelerator)
        plan.jobs.update(model_jobs(model, topics))
        plan.work += work
        plan.disk.update(disk_bytes(model, work))
        plan.temporary = max(plan.temporary, temporary_bytes(model))
        plan.cells += len(model.runs)
        plan.infeasible += len(model.all_cells) - len(model.feasible)
        if not model.facts.levels_known:
            plan.levels_unknown.append(name)
    plan.work.sort(key=lambda work: -work.hours)
    return plan
