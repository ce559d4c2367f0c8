"""Relative changes of a piece of a tensor (paper, section 4.1), in float32 arithmetic whatever the stored type."""

from dataclasses import dataclass

import numpy as np

from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.bit_patterns import all_finite, as_float32
from knowshift.weights.versions import Piece

EPSILON = np.float32(1e-8)  # added to the denominator, as the authors' released tool does
BIN_SHIFT = 11  # of the 31 bits of a non-negative float32, those below a histogram's bin
BINS = 1 << (31 - BIN_SHIFT)
LOW = (1 << BIN_SHIFT) - 1


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed arrays for the next ones, before a pass over weights.

    glibc returns the memory of every array of a piece to the system and fetches it again, until a block nearly as large as
    its limit of 32 MiB has been freed once. This one is never touched; it saves a third of the time of a pass.
    """
    np.empty(31 << 20, np.uint8)


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


def changes(piece: Piece, skip: bool = True) -> Changes:
    """The relative changes of a piece of a tensor.

    Args:
        skip: leave out parameters that kept their bits, where there are so many that it saves time.

    Raises:
        KnowshiftError: a value is not finite.
    """
    before, after, same = piece.base, piece.tuned, 0
    if skip:
        different = before != after
        if (count := np.count_nonzero(different)) < 0.7 * before.size:
            same = before.size - count
            if not all_finite(before, piece.dtype):
                raise KnowshiftError(f"tensor {piece.name} has values before training that are not finite")
            places = np.flatnonzero(different)
            before, after = np.take(before, places), np.take(after, places)
    old, new = as_float32(before, piece.dtype), as_float32(after, piece.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        r = np.abs(new - old)
        r /= np.abs(old) + EPSILON
    if not np.isfinite(r.max(initial=0)):  # r itself may overflow
        for side, values in (("before", old), ("after", new)):
            if not np.isfinite(values).all():
                raise KnowshiftError(f"tensor {piece.name} has values {side} training that are not finite")
    return Changes(old, new, r, same)
