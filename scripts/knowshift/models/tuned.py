"""A fine-tuned model in memory: the base with a delta added."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from knowshift.models.loading import DTYPES, load_model
from knowshift.weights.deltas import Delta
from knowshift.weights.torch_bits import as_tensor


def load_tuned(base: Path, delta: Path, dtype: str, device: torch.device | str, threads: int = 1) -> PreTrainedModel:
    """The fine-tuned model: the base with its delta applied, cast to `dtype` afterwards."""
    model = with_delta(base, Delta(delta, base, threads))
    return model.to(device, DTYPES[dtype])


def with_delta(base: Path, delta: Delta) -> PreTrainedModel:
    """The fine-tuned model on the CPU, in the type that most of its tensors were trained in."""
    types = list(delta.dtypes.values())
    most = max(sorted(set(types)), key=types.count)
    model = load_model(base, most)  # where types differ, transformers keeps some wide
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, _, tuned in delta:
            if name in parameters:  # old LLaMA files hold tables of positions too, which training leaves alone
                parameters[name].copy_(as_tensor(tuned, delta.dtypes[name]))
    return model
