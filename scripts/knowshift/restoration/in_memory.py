"""Restored models in memory: a fine-tuned model with a part of its changes undone, never written to disk."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel

from knowshift.models.loading import DTYPES
from knowshift.models.tuned import with_delta
from knowshift.weights.bit_patterns import cast
from knowshift.weights.deltas import Delta
from knowshift.weights.torch_bits import bits_of, name_of
from knowshift.weights.versions import Versions


def load_restored(
    base: Path,
    delta: Path,
    strategy: str,
    region: str,
    percent: float,
    seed: int,
    dtype: str,
    device: torch.device | str,
    threads: int = 1,
    histogram: pa.Table | None = None,
) -> tuple[PreTrainedModel, pa.Table]:
    """Load the fine-tuned model with `percent` of a region's parameters put back to their values in the base.

    The fine-tuned weights are held once and restored in their own memory, piece by piece; the base is read from disk as
    needed.

    Args:
        base: the model directory before training.
        delta: the delta directory.
        strategy: what to restore first, see `SortKeys`.
        region: whose parameters are restored, see `regions`.
        percent: the share of the region's parameters to restore, 0 to 100.
        seed: the seed of the strategy random.
        dtype: the type of the model that is returned; parameters are restored before the cast.
        device: the device of the model that is returned.
        threads: how many threads work.
        histogram: the histogram of this region's relative changes, see `select`.

    Returns:
        The model, and one row per tensor of the region in the schema `SELECTION`.

    Raises:
        KnowshiftError: see `Delta` and `select`.
    """
    # Imported here because it loads llvmlite: a process of vLLM imports this module too, and fails beside llvmlite.
    from knowshift.restoration.selection import select

    source = Delta(delta, base, threads)
    model = with_delta(base, source)
    parameters = dict(model.named_parameters())
    flat = {name: bits_of(parameter).reshape(-1) for name, parameter in parameters.items()}
    dtypes = source.dtypes | {name: name_of(parameter.dtype) for name, parameter in parameters.items()}
    stored = source.base.tensors

    def read(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        before = cast(source.base.piece(name, start, stop), stored[name].dtype, dtypes[name])
        return before, flat[name][start:stop] if name in flat else before  # what is no parameter was not trained

    versions = Versions({name: stored[name].shape for name in source.names()}, dtypes, read, source.base.no_parameters)
    (selection,) = select(versions, strategy, region, [percent], seed, threads, histogram)
    for name in flat.keys() & selection.ties.keys():
        for start, piece in selection.restored_pieces(versions, name):
            flat[name][start : start + len(piece)] = piece
    # transformers wraps torch's `to` in a decorator that loses its signature.
    return model.to(device, DTYPES[dtype]), selection.tensors  # pyright: ignore[reportArgumentType]
