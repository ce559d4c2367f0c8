"""Estimates how long an experiment takes on this machine's processors, stage by stage.

A job's seconds are its start, its reading of weights, and its arithmetic, each from what was measured of the machine
(`machine_speed.py`) and the numbers below, which stand for what the stages do. They were fitted to processor seconds of
single jobs of the default experiment, with AVX2 and with AVX-512. `python scripts/plan.py --compare FOLDER` prints what
they give beside the benchmark files of a finished run.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from knowshift.finetuning.grid import cells_read
from knowshift.planning import sizing
from knowshift.planning.accelerators import ACCELERATORS, STEP_FLOPS, step_bytes
from knowshift.planning.fact_counts import TopicSize
from knowshift.planning.gpu_work import DELTA_BYTES, RuleWork, gpu_work
from knowshift.planning.jobs import model_jobs, probing_jobs, shared_jobs
from knowshift.planning.machine_speed import MachineSpeed
from knowshift.planning.planned_model import ModelSize, PlannedModel

# --- what the stages do; correct these where a finished run says otherwise ---

# Matrix products per token, relative to a pass of 64 tokens; below 1 where prompts share passes and answers end early.
GENERATING = {
    "probe_mastery": 1.0,
    "evaluate_base": 0.55,
    "evaluate": 0.55,
    "evaluate_instruct": 0.55,
    "evaluate_restored": 0.55,
    "evaluate_base_tasks": 0.55,
    "evaluate_tasks": 0.55,
}
# Seconds per token beside them (attention, sampling, Python), on a processor that starts a process in USUAL_START.
BESIDE = {"probe_mastery": 1.5e-3}
BESIDE_OTHERS = 1.0e-3
USUAL_START = 3.4
FIRST_PASS = 2.0  # seconds of a generating job until its passes run as fast as later ones
TRAINING_PRODUCTS = 0.9  # products of a training token, relative to those that are counted
TRAINING_COPIES = 1.0  # bytes that a step moves, relative to those that are counted
LOAD_PASSES = 4.0  # times that a job moves the bytes of the weights which it reads (read, checked, converted)
SAVE_PASSES = 80.0  # bytes moved in the time in which a byte of a checkpoint is written and its digest is taken
UNPACKED = 4.0  # bytes of a delta that are decompressed in the time in which one is compressed
COMPARED = 6.9  # bytes compressed in the time in which diff_weights deals with a byte of the weights
RANKED = 480.0  # bytes moved in the time in which a parameter is ranked by its relative change
DECOMPOSED = 2.5  # products of a matrix with a square one in the time in which its changes are decomposed
DEQUANTISED = 80.0  # bytes moved in the time in which a byte of a quantised model's weights is made
# Jobs on tables, in starts of a process that imports pandas.
TABLE_STARTS = {
    "build_facts": 0.6,
    "grade_mastery": 2.0,
    "count_levels": 1.2,
    "draw_order": 1.2,
    "measure_divergence": 1.5,
    "tabulate_model": 5.0,
    "analyse_model": 9.0,
    "join_tables": 2.0,
    "tabulate_costs": 2.0,
    "tabulate_facts": 1.5,
    "tabulate_published": 1.5,
    "print_tables": 2.0,
    "plot": 23.0,
    "report": 14.0,
    "keep_restored": 0.1,
    "keep_restored_task": 0.1,
}
SNAKEMAKE = 0.5  # seconds of Snakemake's own per job: it starts jobs one after the other

# The order of the stages. Jobs of a group run beside one another; a group waits for the one before.
GROUPS = (
    ("retrieve_entityquestions", "build_facts", "resolve_model", "resolve_instruct"),
    ("probe_mastery",),
    ("grade_mastery", "count_levels"),
    (
        *("evaluate_base", "evaluate_instruct", "draw_order", "finetune", "resolve_tuned"),
        *("diff_weights", "keep_delta", "evaluate"),
        *("measure_changes", "measure_divergence", "evaluate_restored", "keep_restored", "export_model"),
        *("evaluate_base_tasks", "evaluate_tasks", "keep_restored_task"),
    ),
    ("tabulate_model", "tabulate_facts", "tabulate_published"),
    ("analyse_model", "tabulate_costs"),
    ("join_tables",),
    ("print_tables", "plot"),
    ("report",),
)


@dataclass(frozen=True)
class Stage:
    """The jobs of one rule, for all models together.

    Attributes:
        rule: name of the rule.
        jobs: number of jobs.
        seconds: of one job, on average.
    """

    rule: str
    jobs: int
    seconds: float


def local_stages(
    experiment: Any, topics: Mapping[str, TopicSize], models: Mapping[str, ModelSize], speed: MachineSpeed
) -> list[Stage]:
    """Estimate the seconds of every rule's jobs.

    Args:
        experiment: the checked configuration.
        topics: size of every topic by name.
        models: size of every model by name.
        speed: what one of the jobs that run at once can do.
    """
    jobs: Counter[str] = Counter(shared_jobs(experiment, topics))
    seconds: defaultdict[str, float] = defaultdict(float)
    for name, size in models.items():
        model = PlannedModel(experiment, name, size, topics)
        counts = Counter(model_jobs(model, topics))
        jobs.update(counts)
        for rule, amount in _model_seconds(model, counts, topics, speed).items():
            seconds[rule] += amount
    for rule, starts in TABLE_STARTS.items():
        seconds[rule] += jobs[rule] * starts * speed.light_start
    jobs.pop("all")
    return [Stage(rule, count, seconds[rule] / count) for rule, count in jobs.items() if count]


def wall_seconds(stages: list[Stage], at_once: int) -> float:
    """Estimate the seconds from the first job to the last.

    Args:
        stages: the stages of the experiment.
        at_once: jobs that run at once.
    """
    by_rule = {stage.rule: stage for stage in stages}
    total = 0.0
    for group in GROUPS:
        present = [by_rule[rule] for rule in group if rule in by_rule]
        if present:
            work = sum(stage.jobs * (stage.seconds + SNAKEMAKE) for stage in present)
            total += max(work / at_once, *(stage.seconds + SNAKEMAKE for stage in present))
    return total


def _model_seconds(
    model: PlannedModel, jobs: Mapping[str, int], topics: Mapping[str, TopicSize], speed: MachineSpeed
) -> Mapping[str, float]:
    """The seconds of all jobs of one model, by rule."""
    parameters, stored = model.size.parameters, model.size.file_bytes
    load = LOAD_PASSES * stored / speed.copied
    unpack = parameters * DELTA_BYTES / (UNPACKED * speed.compressed)
    rank = parameters * RANKED / speed.copied
    seconds: defaultdict[str, float] = defaultdict(float)
    for work in gpu_work(model, probing_jobs(topics), ACCELERATORS["h100"]):
        rule = work.rule.partition(" ")[0]
        per_job = speed.start + load
        if rule == "finetune":
            per_job += SAVE_PASSES * 4 * parameters / speed.copied
            seconds[rule] += _training_seconds(model, work, speed)
        else:
            per_job += FIRST_PASS * speed.start / USUAL_START
            seconds[rule] += _generating_seconds(model, work, speed)
        if rule in ("evaluate", "evaluate_restored", "evaluate_tasks"):
            per_job += unpack
        seconds[rule] += work.jobs * per_job
    written = sum(map(len, model.stops.values()))  # checkpoints of earlier steps, beside the last
    seconds["finetune"] += written * SAVE_PASSES * 4 * parameters / speed.copied
    seconds["evaluate_restored"] += len(model.restored) * rank + _undoing_seconds(model, unpack, speed)
    light = 2 * speed.light_start
    seconds["resolve_model"] = jobs["resolve_model"] * (speed.start + DEQUANTISED * 4 * parameters / speed.copied)
    seconds["resolve_instruct"] = jobs["resolve_instruct"] * (speed.start + DEQUANTISED * stored / speed.copied)
    seconds["resolve_tuned"] = jobs["resolve_tuned"] * (
        speed.start + load + SAVE_PASSES * 4 * parameters / speed.copied
    )
    for rule in ("diff_weights", "keep_delta"):
        seconds[rule] = jobs[rule] * (light + COMPARED * 4 * parameters / speed.compressed)
    seconds["measure_changes"] = jobs["measure_changes"] * (light + unpack + rank)
    seconds["export_model"] = jobs["export_model"] * (light + unpack + rank + load)
    return seconds


def _undoing_seconds(model: PlannedModel, unpack: float, speed: MachineSpeed) -> float:
    """The seconds that some strategies take beside ranking: they decompose changes, or read other seeds' deltas."""
    parameters, seconds = model.size.parameters, 0.0
    hidden = (parameters * 128 / 12) ** (1 / 3)  # as in `sizing.training_bytes`
    for sweep in model.sweeps_made:
        if sweep.strategy == "low_rank":
            # Two products of half the width cut the changes down, once for the table and once for the model.
            products = DECOMPOSED + sweep.shares
            seconds += products * parameters * hidden * 2 / speed.plain_products["float32"]
        others = len(cells_read(sweep.strategy, sweep.job[0], model.experiment.seeds)) - 1
        seconds += others * unpack * (2 + sweep.shares)  # two passes choose, and each model is made by one
    return seconds


def _generating_seconds(model: PlannedModel, work: RuleWork, speed: MachineSpeed) -> float:
    """The seconds of reading prompts and generating."""
    settings = model.experiment.mastery if work.rule == "probe_mastery" else model.experiment.evaluation
    dtype = model.experiment.models[model.name].dtype or settings.dtype
    products = (work.read + work.written) * 2 * model.size.parameters / speed.products[dtype]
    beside = BESIDE.get(work.rule, BESIDE_OTHERS) * speed.start / USUAL_START
    return GENERATING[work.rule] * products + beside * (work.read + work.written)


def _training_seconds(model: PlannedModel, work: RuleWork, speed: MachineSpeed) -> float:
    """The seconds of all training steps of one method."""
    method = work.rule.partition("(")[2].rstrip(")")
    kind, recipe = model.experiment.finetuning.training(method)
    runs = [cell for cell in model.trained if cell.method == method]
    examples = sum(model.facts.examples(cell, recipe.replay) for cell in runs) * recipe.epochs
    steps = examples / recipe.batch_size
    parameters, dtype = model.size.parameters, recipe.compute or recipe.dtype
    products = work.read * STEP_FLOPS[kind] * parameters / speed.plain_products[dtype]
    moved = step_bytes(kind, recipe.optimizer, recipe.l2_sp > 0)
    scale = sizing.DTYPE_BYTES[recipe.dtype] / 4
    return TRAINING_PRODUCTS * products + TRAINING_COPIES * steps * parameters * moved * scale / speed.copied
