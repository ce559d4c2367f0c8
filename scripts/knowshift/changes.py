"""Relative changes of a piece of a tensor (paper, section 4.1), in float32 arithmetic whatever the stored type.

All of it is numpy on flat arrays, because torch would start threads of its own in each of ours.
"""

import numpy as np
import torch

from knowshift.errors import KnowshiftError

EPSILON = np.float32(1e-8)  # added to the denominator, as the authors' released tool does
BIN_SHIFT = 11  # of the 31 bits of a non-negative float32, those below a histogram's bin
BINS = 1 << (31 - BIN_SHIFT)
LOW = (1 << BIN_SHIFT) - 1

_INTEGERS = {torch.float64: np.int64, torch.float32: np.int32, torch.float16: np.int16, torch.bfloat16: np.int16}
_INFINITY = {
    torch.float64: 0x7FF << 52,
    torch.float32: 0xFF << 23,
    torch.float16: 0x1F << 10,
    torch.bfloat16: 0xFF << 7,
}


def bits_of(tensor: torch.Tensor) -> np.ndarray:
    """The bit patterns of a flat float tensor, as signed integers."""
    return tensor.view(torch.uint8).numpy().view(_INTEGERS[tensor.dtype])


def as_float32(bits: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The values that bit patterns stand for."""
    if dtype == torch.bfloat16:
        wide = bits.view(np.uint16).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return bits.view({2: np.float16, 4: np.float32, 8: np.float64}[dtype.itemsize]).astype(np.float32, copy=False)


def changed(
    name: str, base: torch.Tensor, tuned: torch.Tensor, skip: bool = True
) -> tuple[np.ndarray, np.ndarray, int]:
    """The parameters of a piece before and after training, those left out that did not change.

    Args:
        name: the tensor's, for errors.
        base, tuned: flat and of one type.
        skip: leave out parameters of equal bits, where there are so many that it saves time.

    Returns:
        Values before and after in float32, and how many parameters are left out.

    Raises:
        KnowshiftError: a value is not finite.
    """
    if tuned.dtype not in _INTEGERS:
        base, tuned = base.float(), tuned.float()
    dtype, before, after = tuned.dtype, bits_of(base), bits_of(tuned)
    infinity = before.dtype.type(_INFINITY[dtype])
    for side, bits in (("before", before), ("after", after)):
        if bits.size and (bits & np.iinfo(bits.dtype).max).max() >= infinity:
            raise KnowshiftError(f"tensor {name} has values {side} training that are not finite")
    if skip:
        different = before != after
        if (count := np.count_nonzero(different)) < 0.7 * before.size:
            places = np.flatnonzero(different)
            return as_float32(before[places], dtype), as_float32(after[places], dtype), before.size - count
    return as_float32(before, dtype), as_float32(after, dtype), 0


def relative_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """r = |after - before| / (|before| + 1e-8), elementwise, for float32 arrays."""
    with np.errstate(over="ignore"):
        r = np.abs(after - before)
        r /= np.abs(before) + EPSILON
    return r
