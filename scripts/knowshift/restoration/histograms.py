"""Histograms of relative changes, filled by the loops in `kernels`.

Bins are the upper bits of the float32 values of r: for non-negative floats the order of the bits is the order of the numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knowshift.restoration.kernels import COUNT_SHIFT, count_changes
from knowshift.restoration.relative_changes import BIN_SHIFT, BINS, EPSILON, LOW, changes
from knowshift.weights.bit_patterns import as_float32
from knowshift.weights.versions import PIECE, Piece

# One 64-bit integer per bin holds the number of values and the sum of the bits that the bin leaves out: sums are exact,
# so neither the order of pieces nor the number of threads changes them.
_ONE = 1 << COUNT_SHIFT
_WANTED = 1 << 63
_INFINITY = 0x7F800000
ROOM = 1 << (COUNT_SHIFT - BIN_SHIFT)  # values


@dataclass(frozen=True)
class Filled:
    """The bins of a histogram that are not empty, rising, with the number of values and the sum of their low bits."""

    bins: np.ndarray
    count: np.ndarray
    low: np.ndarray

    def sums(self) -> np.ndarray:
        """The sum of the values of each bin (float64)."""
        edge = (self.bins.astype(np.int32) << BIN_SHIFT).view(np.float32).astype(np.float64)
        unit = np.ldexp(1.0, np.maximum(self.bins >> (23 - BIN_SHIFT), 1) - 150)  # of the last bit of such values
        return self.count * edge + self.low * unit


def join(bins: np.ndarray, count: np.ndarray, low: np.ndarray) -> Filled:
    """A histogram from bins in any order, some of them repeatedly."""
    bins, inverse = np.unique(bins, return_inverse=True)
    counts, lows = np.zeros(len(bins), np.int64), np.zeros(len(bins), np.int64)
    np.add.at(counts, inverse, count)
    np.add.at(lows, inverse, low)
    return Filled(bins, counts, lows)


def fill(bits: np.ndarray, counts: np.ndarray) -> Filled:
    """The histogram of values with these bits, each occurring so many times."""
    return join(bits >> BIN_SHIFT, counts, counts * (bits & LOW))


class Histogram:
    """A histogram that one thread fills and empties.

    Args:
        wanted: bins whose values are wanted one by one.

    Attributes:
        size: how many changes it holds; it has room for `ROOM`.
        unchanged: how many of them are 0.
        largest: the bits of the largest.
    """

    def __init__(self, wanted: Sequence[int] | np.ndarray = ()) -> None:
        self._packed = np.zeros(BINS, np.uint64)
        self._packed[np.asarray(wanted, np.intp)] = _WANTED
        self._found = np.empty(PIECE, np.uint32)
        self._clear()

    def _clear(self) -> None:
        self.size, self.unchanged, self._least, self.largest = 0, 0, BINS << BIN_SHIFT, 0

    def add(self, piece: Piece) -> tuple[int, np.ndarray]:
        """Add the changes of a piece.

        Returns:
            How many values before are 0, and the bits of the changes above 0 in bins that are wanted one by one.

        Raises:
            KnowshiftError: a value is not finite.
        """
        sides, shift = (piece.base, piece.tuned), 16
        if piece.dtype != "bfloat16":
            sides, shift = [as_float32(side, piece.dtype).view(np.int32) for side in sides], 0
        before, after = (side.view(np.dtype(f"u{side.itemsize}")) for side in sides)
        same, zeros, least, largest, found = count_changes(
            before, after, np.uint32(shift), EPSILON, BIN_SHIFT, self._packed, self._found
        )
        if largest >= _INFINITY:
            changes(piece)  # tells what is not finite; if nothing is, r itself is too large
        self.size, self.unchanged = self.size + before.size, self.unchanged + same
        self._least, self.largest = min(self._least, least + 1), max(self.largest, largest)
        return zeros, self._found[:found].view(np.int32).copy()

    def take(self) -> Filled:
        """Empty it."""
        first = self._least >> BIN_SHIFT
        bins = first + np.flatnonzero(self._packed[first : (self.largest >> BIN_SHIFT) + 1])
        if first and self._packed[0]:
            bins = np.concatenate([[0], bins])
        values = self._packed[bins]
        self._packed[bins] = values & np.uint64(_WANTED)
        values = (values & np.uint64(_WANTED - 1)).astype(np.int64)
        self._clear()
        return Filled(bins, values >> COUNT_SHIFT, values & (_ONE - 1))
