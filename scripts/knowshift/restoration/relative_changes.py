"""Relative changes of a piece of a tensor (paper, section 4.1), in float32 arithmetic whatever the stored type."""

from dataclasses import dataclass

import numpy as np

from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.bit_patterns import all_finite, as_float32
from knowshift.weights.versions import Piece

EPSILON = np.float32(1e-8)  # added to the denominator, as the authors' released tool does
BIN_SHIFT = 11  # the low bits of a float32 that a histogram bin leaves out; the sign bit is always 0
BINS = 1 << (31 - BIN_SHIFT)
LOW = (1 << BIN_SHIFT) - 1  # a mask of the low bits


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed arrays for the next ones, before a pass over weights.

    glibc returns the memory of every array of a piece to the system and fetches it again, until a block nearly as large
    as its limit of 32 MiB has been freed once. This one is never touched; it saves a third of the time of a pass.
    """
    np.empty(31 << 20, np.uint8)


@dataclass(frozen=True)
class RelativeChanges:
    """What training changed in a piece of a tensor; parameters that kept their bits may be left out.

    Attributes:
        before: values before training, float32 of shape (n,).
        after: values after training, of the same type and shape.
        r: the relative changes |after - before| / (|before| + 1e-8), of the same type and shape.
        left_out: how many parameters of the piece are left out; their r is 0.
    """

    before: np.ndarray
    after: np.ndarray
    r: np.ndarray
    left_out: int


def relative_changes(piece: Piece, skip_unchanged: bool = True) -> RelativeChanges:
    """Compute the relative changes of a piece of a tensor.

    Args:
        piece: the piece.
        skip_unchanged: leave out parameters that kept their bits, where there are so many that it saves time.

    Raises:
        KnowshiftError: a value is not finite.
    """
    before, after, left_out = piece.base, piece.tuned, 0
    if skip_unchanged:
        different = before != after
        if (count := int(np.count_nonzero(different))) < 0.7 * before.size:
            left_out = before.size - count
            if not all_finite(before, piece.dtype):
                raise KnowshiftError(f"tensor {piece.name} has values before training that are not finite")
            indices = np.flatnonzero(different)
            before, after = np.take(before, indices), np.take(after, indices)
    old, new = as_float32(before, piece.dtype), as_float32(after, piece.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        r = np.abs(new - old)
        r /= np.abs(old) + EPSILON
    if not np.isfinite(r.max(initial=0)):  # r of finite values may overflow, which is no error
        for side, values in (("before", old), ("after", new)):
            if not np.isfinite(values).all():
                raise KnowshiftError(f"tensor {piece.name} has values {side} training that are not finite")
    return RelativeChanges(old, new, r, left_out)
