"""What a training needs to go on after an interruption: weights, optimizer and the rows of the steps that are done.

Every process saves its own part in a safetensors file; the step counts as saved once `steps.json` names it.
"""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer
from transformers import PreTrainedModel

from knowshift.artifacts import canonical_json, whole_file, write_text
from knowshift.dtensors import own_part


class TrainingState:
    """The saved state of one training.

    Args:
        folder: where it lies; all processes see it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._committed = folder, folder / "steps.json"
        self._rank = dist.get_rank() if dist.is_initialized() else 0

    def _file(self, step: int) -> Path:
        return self._folder / f"{step:08d}.{self._rank}.safetensors"

    def load(self, model: PreTrainedModel, optimizer: Optimizer) -> list[dict]:
        """Put model and optimizer back as they were saved; returns the rows of the steps done, none if nothing is saved."""
        if not self._committed.exists():
            return []
        rows = json.loads(self._committed.read_text(encoding="utf-8"))
        tensors = load_file(self._file(len(rows)))
        with torch.no_grad():
            for name, parameter in _trained(model):
                own_part(parameter).copy_(tensors[name])
                state = {"step": tensors[f"{name}/step"]}
                for part in ("exp_avg", "exp_avg_sq"):
                    state[part] = torch.zeros_like(parameter)
                    own_part(state[part]).copy_(tensors[f"{name}/{part}"])
                optimizer.state[parameter] = state
        return rows

    def save(self, model: PreTrainedModel, optimizer: Optimizer, rows: list[dict]) -> None:
        """Save the state after the steps of `rows`, then forget the one before."""
        tensors = {}
        for name, parameter in _trained(model):
            tensors[name] = own_part(parameter).detach().contiguous()
            for part, value in optimizer.state[parameter].items():
                tensors[f"{name}/{part}"] = own_part(value).contiguous()
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
