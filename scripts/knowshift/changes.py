"""Relative changes of a piece of a tensor (paper, section 4.1), in float32 arithmetic whatever the stored type.

Nearly all of it is numpy on flat arrays, because torch would start threads of its own in each of ours.
"""

from dataclasses import dataclass

import numpy as np
import torch

from knowshift.errors import KnowshiftError

# glibc returns the memory of every array of a piece to the system and fetches it again, until a large block has been
# freed once. This one is never touched; it saves a third of the time.
np.empty(31 << 20, np.uint8)

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


def add_at(totals: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
    """totals[places] += values, places repeated, for int64 arrays; unlike numpy's, other threads run meanwhile."""
    torch.from_numpy(totals).scatter_add_(0, torch.from_numpy(places), torch.from_numpy(values))


@dataclass(frozen=True)
class Changes:
    """What training changed in a piece of a tensor.

    Attributes:
        before, after: float32 values; parameters that kept their bits may be left out.
        r: |after - before| / (|before| + 1e-8).
        same: how many are left out.
    """

    before: np.ndarray
    after: np.ndarray
    r: np.ndarray
    same: int


def changes(name: str, base: torch.Tensor, tuned: torch.Tensor, skip: bool = True) -> Changes:
    """The relative changes of a piece of a tensor.

    Args:
        name: the tensor's, for errors.
        base, tuned: flat and of one type.
        skip: leave out parameters that kept their bits, where there are so many that it saves time.

    Raises:
        KnowshiftError: a value is not finite.
    """
    if tuned.dtype not in _INTEGERS:
        base, tuned = base.float(), tuned.float()
    dtype, before, after, same = tuned.dtype, bits_of(base), bits_of(tuned), 0
    if skip:
        different = before != after
        if (count := np.count_nonzero(different)) < 0.7 * before.size:
            same = before.size - count
            if (before & np.iinfo(before.dtype).max).max() >= _INFINITY[dtype]:
                raise KnowshiftError(f"tensor {name} has values before training that are not finite")
            places = np.flatnonzero(different)
            before, after = before[places], after[places]
    old, new = as_float32(before, dtype), as_float32(after, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        r = np.abs(new - old)
        r /= np.abs(old) + EPSILON
    if not np.isfinite(r.max(initial=0)):  # r itself may overflow
        for side, values in (("before", old), ("after", new)):
            if not np.isfinite(values).all():
                raise KnowshiftError(f"tensor {name} has values {side} training that are not finite")
    return Changes(old, new, r, same)
