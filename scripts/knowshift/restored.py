"""Models in memory from base + delta, fine-tuned or with a part of the update undone; nothing is written."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from knowshift.deltas import Delta
from knowshift.errors import KnowshiftError
from knowshift.models import load_model


def fill(model: PreTrainedModel, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Put tensors into a model by name, in place.

    Raises:
        KnowshiftError: the model has no such tensor.
    """
    slots = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, tensor in tensors:
            if name not in slots:
                raise KnowshiftError(f"the delta has a tensor {name} that the model does not have")
            slots[name].copy_(tensor)


def load_tuned(base: Path, delta: Path, dtype: str, device: torch.device | str, threads: int) -> PreTrainedModel:
    """The fine-tuned model: the base with its delta applied."""
    model = load_model(base, dtype, device)
    fill(model, ((name, tuned) for name, _, tuned in Delta(delta, base, threads)))
    return model
