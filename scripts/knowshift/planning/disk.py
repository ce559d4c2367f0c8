"""Estimates the bytes on disk that an experiment takes."""

from collections.abc import Iterable

from knowshift.mastery.schemas import LEVELS
from knowshift.planning.fact_counts import CHARACTERS_PER_TOKEN
from knowshift.planning.gpu_work import DELTA_BYTES, RuleWork
from knowshift.planning.planned_model import PlannedModel
from knowshift.planning.sizing import DTYPE_BYTES

# Measured on the default experiment. Everything that is not counted here is small beside it.
COMPLETION_BYTES = 0.5  # per character of a completion, compressed
ANSWER_BYTES = 600  # per answer, with the ids and logits of its 100 highest first tokens


def disk_bytes(model: PlannedModel, work: Iterable[RuleWork]) -> dict[str, float]:
    """Estimate the bytes of one model that stay on disk, by kind of file.

    Args:
        model: the model and its cells.
        work: its GPU work, which says how many completions and answers there are.
    """
    experiment, size = model.experiment, model.size
    folders = 1 + (experiment.models[model.name].instruct is not None)
    written = answers = 0.0
    for item in work:
        if item.rule == "probe_mastery":
            written += item.written
        else:
            answers += item.completions
    limit = experiment.evaluation.per_level.get("test", 0)
    best_known = model.facts.per_level("test")[LEVELS[-1]]
    # Logits over the whole vocabulary are kept for test facts of the highest level.
    with_logits = best_known if limit is None else min(limit, best_known)
    trained_bytes = _trained_bytes(model)
    return {
        "models": folders * size.file_bytes,
        "completions": written * CHARACTERS_PER_TOKEN * COMPLETION_BYTES,
        "answers": answers * ANSWER_BYTES + with_logits * size.vocabulary * 4,
        "deltas": len(model.kept_deltas) * size.parameters * DELTA_BYTES * trained_bytes / 4,
        "exports": len(model.exports) * size.parameters * trained_bytes,
    }


def temporary_bytes(model: PlannedModel) -> float:
    """Estimate the bytes that one fine-tuning job takes while it runs.

    These are its saved state (weights and two moments), then its checkpoint and its delta.
    """
    trained_bytes = _trained_bytes(model)
    if model.experiment.finetuning is None:  # a checkpoint that was fine-tuned elsewhere, and its delta
        return model.size.parameters * (trained_bytes + DELTA_BYTES * trained_bytes / 4)
    kept = max(map(len, model.stops.values()), default=0)  # checkpoints of earlier steps, beside the last
    return model.size.parameters * ((3 + 1 + kept) * trained_bytes + DELTA_BYTES * trained_bytes / 4)


def _trained_bytes(model: PlannedModel) -> int:
    """The bytes of a parameter after training; float32 where it is not known, as merged adapters have."""
    grid = model.experiment.finetuning
    return DTYPE_BYTES[grid.dtype if grid else "float32"]
