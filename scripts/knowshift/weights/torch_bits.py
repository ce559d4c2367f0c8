"""Bit patterns (see `floats`) as torch tensors, and back, without a copy."""

import numpy as np
import torch

from knowshift.weights.bit_patterns import integers


def as_tensor(bits: np.ndarray, dtype: str) -> torch.Tensor:
    """The tensor of a type that bit patterns stand for, in their shape."""
    return torch.from_numpy(bits).view(getattr(torch, dtype))


def name_of(dtype: torch.dtype) -> str:
    """A type's name, such as "float32"."""
    return str(dtype).removeprefix("torch.")


def bits_of(tensor: torch.Tensor) -> np.ndarray:
    """The bit patterns of a tensor in main memory, in its shape."""
    whole = tensor.detach().contiguous()
    return whole.view(getattr(torch, integers(name_of(tensor.dtype)).name)).numpy()
