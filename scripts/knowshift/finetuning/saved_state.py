"""Saves what a training needs to go on after an interruption: weights, optimizer state, rows of the steps done.

Every process saves its own part in a safetensors file. A step counts as saved once `steps.json` has its row.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer
from transformers import PreTrainedModel

from knowshift.canonical import canonical_json
from knowshift.finetuning.distributed_tensors import own_part
from knowshift.runtime.artefacts import whole_file, write_text


class TrainingState:
    """The saved state of one training.

    Args:
        folder: holds the state; every process can read and write it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._committed = folder, folder / "steps.json"
        self._rank = dist.get_rank() if dist.is_initialized() else 0

    def _file(self, step: int) -> Path:
        return self._folder / f"{step:08d}.{self._rank}.safetensors"

    def load(self, model: PreTrainedModel, optimizer: Optimizer) -> list[dict[str, Any]]:
        """Set model and optimizer to the saved state.

        Returns:
            A row per step that is done; none if nothing is saved.
        """
        if not self._committed.exists():
            return []
        rows = json.loads(self._committed.read_text(encoding="utf-8"))
        tensors = load_file(self._file(len(rows)))
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            name, _, part = key.partition("/")
            parts.setdefault(name, {})[part] = value
        with torch.no_grad():
            for name, parameter in _trained(model):
                own_part(parameter).copy_(tensors[name])
                optimizer.state[parameter] = {
                    part: _optimizer_state(value, parameter) for part, value in parts.get(name, {}).items()
                }
        return rows

    def save(self, model: PreTrainedModel, optimizer: Optimizer, rows: list[dict[str, Any]]) -> None:
        """Save the state after the steps of `rows`, then remove the one saved before."""
        tensors = {}
        for name, parameter in _trained(model):
            tensors[name] = own_part(parameter).detach().contiguous()
            for part, value in optimizer.state[parameter].items():
                own = own_part(torch.as_tensor(value)).contiguous()
                # State that has not the parameter's shape, such as a count of steps, is small. Parameters may share
                # it, and safetensors refuses tensors that share memory, so it is copied.
                tensors[f"{name}/{part}"] = own if own.shape == tensors[name].shape else own.clone()
        with whole_file(self._file(len(rows))) as partial:
            save_file(tensors, partial)
        if dist.is_initialized():
            dist.barrier()
        if self._rank == 0:
            write_text(self._committed, canonical_json(rows))
        if dist.is_initialized():
            dist.barrier()
        for old in self._folder.glob(f"*.{self._rank}.safetensors"):
            if old != self._file(len(rows)):
                old.unlink()


def _trained(model: PreTrainedModel) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _optimizer_state(saved: torch.Tensor, parameter: torch.nn.Parameter) -> torch.Tensor | int:
    """Return saved state as the optimizer holds it: sharded and on a device like its parameter, or an int."""
    if not saved.is_floating_point() and saved.dim() == 0:
        return int(saved)
    if saved.shape != own_part(parameter).shape:
        return saved
    state = torch.zeros_like(parameter, dtype=saved.dtype)
    own_part(state).copy_(saved)
    return state
