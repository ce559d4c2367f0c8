"""Tensors of which each process holds a part (DTensor); a plain tensor counts as one that this process holds whole."""

import torch
from torch.distributed.tensor import DTensor


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of a tensor that this process holds; writing to it writes to the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole tensor; every process must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: torch.Tensor) -> slice:
    """Return which rows of a tensor this process holds.

    FSDP cuts the first dimension into equal parts; the last ones may be shorter.
    """
    if not isinstance(tensor, DTensor):
        return slice(0, len(tensor))
    mesh, rows = tensor.device_mesh, tensor.shape[0]
    part = -(-rows // mesh.size())
    start = min(mesh.get_local_rank() * part, rows)
    return slice(start, min(start + part, rows))
