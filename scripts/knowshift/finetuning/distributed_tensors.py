"""Tensors that several processes hold in parts; a plain tensor is one that this process holds whole."""

import torch
from torch.distributed.tensor import DTensor


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds; writing to it writes to the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """The whole tensor; all processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: torch.Tensor) -> slice:
    """Which of a tensor's rows this process holds: FSDP cuts the first dimension into equal parts, the last ones shorter."""
    if not isinstance(tensor, DTensor):
        return slice(0, len(tensor))
    mesh, rows = tensor.device_mesh, tensor.shape[0]
    part = -(-rows // mesh.size())
    start = min(mesh.get_local_rank() * part, rows)
    return slice(start, min(start + part, rows))
