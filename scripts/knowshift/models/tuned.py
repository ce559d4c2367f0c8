"""Fine-tuned models in memory: a base model with a delta applied."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from knowshift.models.loading import DTYPES, load_model
from knowshift.weights.deltas import Delta
from knowshift.weights.stored_places import stored_views
from knowshift.weights.torch_bits import as_tensor


def load_tuned(base: Path, delta: Path, dtype: str, device: torch.device | str, threads: int = 1) -> PreTrainedModel:
    """Load a fine-tuned model from its base and its delta.

    Args:
        base: model directory of the base.
        delta: delta directory.
        dtype: a key of `DTYPES`; the fine-tuned weights are rebuilt exactly and cast to it afterwards.
        device: where the parameters go.
        threads: CPU threads that decode the delta.
    """
    model = with_delta(base, Delta(delta, base, threads))
    # The stubs of transformers take the first argument of `to` for the model.
    return model.to(device, DTYPES[dtype])  # pyright: ignore[reportArgumentType]


def with_delta(base: Path, delta: Delta) -> PreTrainedModel:
    """Load a base model on the CPU and overwrite its parameters by the fine-tuned ones.

    Args:
        base: model directory of the base.
        delta: the delta to that base; it yields the fine-tuned tensors.

    Returns:
        The fine-tuned model, in the type that most of its tensors were trained in.
    """
    types = list(delta.dtypes.values())
    most = max(sorted(set(types)), key=types.count)
    model = load_model(base, most)  # where types differ, transformers keeps some wide
    views = stored_views(model, delta.names())
    with torch.no_grad():
        for name, _, tuned in delta:
            if name in views:  # files also hold masks and tables, which are not trained
                views[name].copy_(as_tensor(tuned, delta.dtypes[name]))
    return model
