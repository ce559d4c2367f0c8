"""Models in memory from base + delta, fine-tuned or with a part of the update undone; nothing is written."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import torch
from transformers import PreTrainedModel

from knowshift.deltas import Delta
from knowshift.models import DTYPES, load_model
from knowshift.regions import layer_and_module
from knowshift.selection import Pair, restore

SELECTION = pa.schema(
    [
        pa.field("tensor", pa.string(), False),
        pa.field("layer", pa.int32(), True),
        pa.field("module", pa.string(), False),
        pa.field("parameters", pa.int64(), False),
        pa.field("restored", pa.int64(), False, {"doc": "parameters put back to their value before training"}),
        pa.field("restored_unchanged", pa.int64(), False, {"doc": "those of them that training had not changed"}),
        pa.field("restored_sum", pa.float64(), False, {"doc": "sum of relative changes undone"}),
        pa.field("sum", pa.float64(), False, {"doc": "sum of relative changes"}),
    ]
)


def load_tuned(base: Path, delta: Path, dtype: str, device: torch.device | str, threads: int = 1) -> PreTrainedModel:
    """The fine-tuned model: the base with its delta applied, cast to `dtype` afterwards."""
    model = _tuned(base, Delta(delta, base, threads))
    return model.to(device, DTYPES[dtype])


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
) -> tuple[PreTrainedModel, pa.Table]:
    """The fine-tuned model with `percent` of a region's parameters put back to their values in the base.

    The fine-tuned weights are held once and restored in place, tensor by tensor; the base is read from disk as needed.

    Returns:
        The model, and one row per tensor of the region in the schema `SELECTION`.
    """
    source = Delta(delta, base, threads)
    model = _tuned(base, source)
    parameters = dict(model.named_parameters())

    def pairs() -> Iterator[Pair]:
        for name in source.names():
            yield name, source.base.read(name).to(parameters[name].dtype), parameters[name].detach()

    rows = []
    with torch.no_grad():
        for part in restore(pairs, strategy, region, percent, seed):
            layer, module = layer_and_module(part.name)
            rows.append(
                {
                    "tensor": part.name,
                    "layer": layer,
                    "module": module,
                    "parameters": part.tensor.numel(),
                    "restored": part.restored,
                    "restored_unchanged": part.restored_unchanged,
                    "restored_sum": part.restored_sum,
                    "sum": part.sum,
                }
            )
            parameters[part.name].copy_(part.tensor)
    return model.to(device, DTYPES[dtype]), pa.Table.from_pylist(rows, schema=SELECTION)


def _tuned(base: Path, delta: Delta) -> PreTrainedModel:
    model = load_model(base, delta.dtype)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, _, tuned in delta:
            parameters[name].copy_(tuned)
    return model
