"""Models in memory from base + delta, fine-tuned or with a part of the update undone; nothing is written."""

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
from knowshift.weights.versions import Pairs


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
    """The fine-tuned model with `percent` of a region's parameters put back to their values in the base.

    The fine-tuned weights are held once and restored in place, piece by piece; the base is read from disk as needed.

    Args:
        histogram: of the relative changes of this region, see `select`.

    Returns:
        The model, and one row per tensor of the region in the schema `SELECTION`.
    """
    # Here, because llvmlite comes with it: a process of vLLM loads this module too, and fails beside that.
    from knowshift.restoration.selection import select

    source = Delta(delta, base, threads)
    model = with_delta(base, source)
    parameters = dict(model.named_parameters())
    flat = {name: bits_of(parameter).reshape(-1) for name, parameter in parameters.items()}
    dtypes = source.dtypes | {name: name_of(parameter.dtype) for name, parameter in parameters.items()}
    places = source.base.places

    def read(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        base = cast(source.base.piece(name, start, stop), places[name].dtype, dtypes[name])
        return base, flat[name][start:stop] if name in flat else base  # what is no parameter was not trained

    pairs = Pairs({name: places[name].shape for name in source.names()}, dtypes, read)
    (selection,) = select(pairs, strategy, region, [percent], seed, threads, histogram)
    for name in flat.keys() & selection.ties.keys():
        for start, piece in selection.restored(pairs, name):
            flat[name][start : start + len(piece)] = piece
    return model.to(device, DTYPES[dtype]), selection.tensors
