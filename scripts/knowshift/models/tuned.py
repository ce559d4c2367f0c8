"""Fine-tuned models in memory: a base model with a delta applied."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from knowshift.models.loading import DTYPES, load_model
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.deltas import Delta
from knowshift.weights.safetensors_files import read_piece
from knowshift.weights.stored_places import stored_views
from knowshift.weights.torch_bits import as_tensor


def load_tuned(
    base: Path,
    delta: Path,
    dtype: str,
    device: torch.device | str,
    threads: int = 1,
    settings: Path | None = None,
) -> PreTrainedModel:
    """Load a fine-tuned model from its base and its delta.

    Args:
        base: model directory of the base.
        delta: delta directory.
        dtype: a key of `DTYPES`; the fine-tuned weights are rebuilt exactly and cast to it afterwards.
        device: where the parameters go.
        threads: CPU threads that decode the delta.
        settings: directory with the fine-tuned model's configuration; None if that is the base's.
    """
    model = with_delta(base, Delta(delta, base, threads), settings)
    # The stubs of transformers take the first argument of `to` for the model.
    return model.to(device, DTYPES[dtype])  # pyright: ignore[reportArgumentType]


def with_delta(base: Path, delta: Delta, settings: Path | None = None) -> PreTrainedModel:
    """Load a base model on the CPU and overwrite its parameters by the fine-tuned ones.

    Args:
        base: model directory of the base.
        delta: the delta to that base; it yields the fine-tuned tensors.
        settings: directory with the fine-tuned model's configuration; None if that is the base's.

    Returns:
        The fine-tuned model, in the type that most of its tensors were trained in. It has the rows that were added to
        its vocabulary, and an output head of its own if fine-tuning made it one.

    Raises:
        KnowshiftError: the embedding and the head have rows for different numbers of new tokens.
    """
    types = list(delta.dtypes.values())
    most = max(sorted(set(types)), key=types.count)
    model = load_model(base, most, settings=settings)  # where types differ, transformers keeps some wide
    _fit(model, delta)
    views = stored_views(model, delta.names())
    with torch.no_grad():
        for name, _, tuned in delta:
            if name in views:  # files also hold masks and tables, which are not trained
                own = views[name][: len(tuned)] if name in delta.added else views[name]
                own.copy_(as_tensor(tuned, delta.dtypes[name]))
        for name, rows in delta.added.items():
            values = as_tensor(read_piece(rows).reshape(rows.shape), rows.dtype)
            views[name][-len(values) :].copy_(values)
    return model


def _fit(model: PreTrainedModel, delta: Delta) -> None:
    """Give a base model the head of its own and the rows for new tokens that the fine-tuned one has."""
    head: Any = model.get_output_embeddings()
    embedding: Any = model.get_input_embeddings()
    if delta.has_own_head and head.weight is embedding.weight:
        model.config.tie_word_embeddings = False
        head.weight = torch.nn.Parameter(embedding.weight.detach().clone())
    sizes = {delta.base.tensors[name].shape[0] + rows.shape[0] for name, rows in delta.added.items()}
    if len(sizes) > 1:
        counts = " and ".join(map(str, sorted(sizes)))
        raise KnowshiftError(f"the fine-tuned model's tensors have {counts} rows for tokens, not one number")
    if sizes:
        model.resize_token_embeddings(sizes.pop(), mean_resizing=False)
