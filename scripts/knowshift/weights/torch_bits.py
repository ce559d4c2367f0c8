"""Conversions between bit patterns (see `bit_patterns`) and torch tensors, without a copy."""

import numpy as np
import torch

from knowshift.weights.bit_patterns import integer_type


def as_tensor(bits: np.ndarray, dtype: str) -> torch.Tensor:
    """View bit patterns as a CPU tensor of the type `dtype`, in the same shape and memory."""
    return torch.from_numpy(bits).view(getattr(torch, dtype))


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a torch type without its module, such as "float32"."""
    return str(dtype).removeprefix("torch.")


def bits_of(tensor: torch.Tensor) -> np.ndarray:
    """View a tensor on the CPU as bit patterns, in its shape; only a tensor that is not contiguous is copied."""
    whole = tensor.detach().contiguous()
    return whole.view(getattr(torch, integer_type(name_of(tensor.dtype)).name)).numpy()
