"""Counts the sequences and tokens of jobs that run a model, and estimates their GPU-hours."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from knowshift.finetuning.grid import AnyCell
from knowshift.planning import sizing
from knowshift.planning.accelerators import (
    GPUS_PER_NODE,
    Accelerator,
    generating_seconds,
    starting_seconds,
    training_seconds,
)
from knowshift.planning.fact_counts import domain_of
from knowshift.planning.planned_model import PlannedModel

DELTA_BYTES = 2.1  # bytes on disk per parameter of a float32 delta, measured on the default experiment


@dataclass(frozen=True)
class RuleWork:
    """The GPU work of one rule for one model.

    Attributes:
        rule: name of the rule; for finetune with the method in parentheses.
        model: name of the model.
        jobs: number of jobs.
        completions: sequences that are generated.
        read: tokens of prompts, or of training examples.
        written: tokens that are generated at most; a model may stop earlier.
        gpus: GPUs that each job holds.
        hours: GPU-hours of all jobs together.
    """

    rule: str
    model: str
    jobs: int
    completions: float = 0
    read: float = 0
    written: float = 0
    gpus: int = 0
    hours: float = 0


@dataclass(frozen=True)
class _Requests:
    """What the jobs of one rule ask a model.

    Attributes:
        jobs: their number.
        sequences: the number of sequences that are generated.
        tokens: tokens of their prompts.
        written: tokens that are generated at most; None takes the limit of the settings for every sequence.
    """

    jobs: int
    sequences: float
    tokens: float
    written: float | None = None


def gpu_work(model: PlannedModel, probing_jobs: int, accelerator: Accelerator) -> list[RuleWork]:
    """Estimate all GPU work of one model.

    Args:
        model: the model and its cells.
        probing_jobs: number of jobs that probe it.
        accelerator: the GPU.
    """
    work = [
        probing_work(model, probing_jobs, accelerator),
        *training_work(model, accelerator),
        *evaluation_work(model, accelerator),
    ]
    return [item for item in work if item.jobs]


def probing_work(model: PlannedModel, jobs: int, accelerator: Accelerator) -> RuleWork:
    """Estimate the work of sampling completions of every fact."""
    settings = model.experiment.mastery
    tokens = settings.templates * model.facts.probed_tokens()
    completions = model.facts.probed() * settings.templates * settings.samples
    requests = _Requests(jobs, completions, tokens)
    return _generating(model, "probe_mastery", settings, requests, model.size.file_bytes, accelerator)


def training_work(model: PlannedModel, accelerator: Accelerator) -> Iterator[RuleWork]:
    """Estimate the work of fine-tuning, for each method."""
    parameters, machine = model.size.parameters, _machine(accelerator)
    tokens_per_example = model.facts.tokens_asked("in_domain") + 1  # and the end of the sequence
    for method in dict.fromkeys(cell.method for cell in model.trained):
        kind, recipe = model.experiment.finetuning.training(method)
        runs = [cell for cell in model.trained if cell.method == method]
        examples = sum(model.facts.examples(cell, recipe.replay) for cell in runs) * recipe.epochs
        held = sizing.training_bytes(parameters, kind, recipe.model_dump())
        gpus, _ = sizing.training_gpus(sizing.gpus_for(parameters, held, machine), machine)
        seconds = training_seconds(
            parameters=parameters,
            tokens=examples * tokens_per_example,
            steps=examples / recipe.batch_size,
            method=kind,
            optimizer=recipe.optimizer,
            pulled=recipe.l2_sp > 0,
            dtype=recipe.compute or recipe.dtype,
            gpus=gpus,
            accelerator=accelerator,
        )
        transferred = model.size.file_bytes + parameters * sizing.DTYPE_BYTES[recipe.dtype]  # base and checkpoint
        seconds += starting_seconds(len(runs), gpus, transferred)
        read = examples * tokens_per_example
        yield RuleWork(f"finetune ({method})", model.name, len(runs), 0, read, 0, gpus, seconds / 3600)


def evaluation_work(model: PlannedModel, accelerator: Accelerator) -> Iterator[RuleWork]:
    """Estimate the work of asking the pre-trained, the instruct, the fine-tuned and the restored models."""
    base_bytes = model.size.file_bytes
    with_delta = base_bytes + model.size.parameters * DELTA_BYTES
    questions, tokens = _held_out(model)
    # The pre-trained model is asked all train facts as well, also those that are never drawn.
    train = model.facts.train()
    train_tokens = train * model.facts.tokens_asked("in_domain")
    times = 2 if model.experiment.evaluation.few_shot else 1  # held-out questions; examples before them are shared
    requests = {"evaluate_base": (_Requests(1, times * questions + train, times * tokens + train_tokens), base_bytes)}
    if model.experiment.models[model.name].instruct:
        requests["evaluate_instruct"] = (_Requests(1, questions, tokens), base_bytes)
    requests["evaluate"] = (_requests_of(model, model.runs), with_delta)
    restored = _requests_of(model, [other.cell for other in model.restored])
    restored = _with_tasks(model, replace(restored, jobs=model.sweeps))
    requests["evaluate_restored"] = (restored, with_delta)
    if tasks := model.size.tasks:
        once = _of_tasks(model, 1)
        requests["evaluate_base_tasks"] = (replace(once, jobs=len(tasks)), base_bytes)
        runs = len(model.runs)
        requests["evaluate_tasks"] = (replace(_of_tasks(model, runs), jobs=len(tasks) * runs), with_delta)
    for rule, (asked, loaded) in requests.items():
        yield _generating(model, rule, model.experiment.evaluation, asked, loaded, accelerator)


def _held_out(model: PlannedModel) -> tuple[float, float]:
    """Count the held-out questions that every model is asked, and the tokens of their prompts and answers."""
    questions = tokens = 0.0
    for question_set, limit in model.experiment.evaluation.per_level.items():
        counts = model.facts.per_level(question_set)
        count = sum(count if limit is None else min(limit, count) for count in counts)
        questions += count
        tokens += count * model.facts.tokens_asked(domain_of(question_set))
    return questions, tokens


def _requests_of(model: PlannedModel, cells: Iterable[AnyCell]) -> _Requests:
    """Count what fine-tuned models, one per cell, are asked: held-out questions, and some of their training facts."""
    limit = model.experiment.evaluation.training_set
    own = [facts if limit is None else min(limit, facts) for facts in map(model.facts.of_cell, cells)]
    questions, tokens = _held_out(model)
    own_tokens = sum(own) * model.facts.tokens_asked("in_domain")
    return _Requests(len(own), len(own) * questions + sum(own), len(own) * tokens + own_tokens)


def _of_tasks(model: PlannedModel, models: int) -> _Requests:
    """Count what models are asked of all tasks, without jobs.

    Args:
        model: the base model.
        models: how many models are asked.
    """
    examples, read, written = (
        models * sum(getattr(task, name) for task in model.size.tasks) for name in ("examples", "read", "written")
    )
    return _Requests(0, examples, read, written)


def _with_tasks(model: PlannedModel, asked: _Requests) -> _Requests:
    """Add the examples of tasks to what restored models are asked."""
    more = _of_tasks(model, len(model.restored_with_tasks))
    written = asked.sequences * model.experiment.evaluation.max_new_tokens + (more.written or 0)
    return _Requests(asked.jobs, asked.sequences + more.sequences, asked.tokens + more.tokens, written)


def _generating(
    model: PlannedModel, rule: str, settings: Any, asked: _Requests, loaded: float, accelerator: Accelerator
) -> RuleWork:
    """Estimate the work of a rule whose jobs generate text.

    Args:
        model: the model that generates.
        rule: name of the rule.
        settings: `mastery` or `evaluation` of the configuration.
        asked: what its jobs ask.
        loaded: bytes that each job reads before it starts.
        accelerator: the GPU.
    """
    parameters, limit = model.size.parameters, settings.max_new_tokens
    instruct = model.experiment.models[model.name].instruct
    if rule == "evaluate_instruct" and instruct.prompt == "chat":
        limit = instruct.chat.max_new_tokens
    written = asked.sequences * limit if asked.written is None else asked.written
    dtype = model.experiment.models[model.name].dtype or settings.dtype
    gpus = sizing.inference_gpus(parameters, dtype, settings.engine, _machine(accelerator))
    batch = min(settings.tokens_per_pass, max(1, asked.sequences / max(1, asked.jobs)))
    seconds = generating_seconds(parameters, asked.tokens, written, batch, dtype, accelerator)
    seconds += starting_seconds(asked.jobs, gpus, loaded)
    return RuleWork(rule, model.name, asked.jobs, asked.sequences, asked.tokens, written, gpus, seconds / 3600)


def _machine(accelerator: Accelerator) -> sizing.Machine:
    """The nodes that the plan assumes."""
    return sizing.Machine(accelerator.memory / 1e9, GPUS_PER_NODE)
