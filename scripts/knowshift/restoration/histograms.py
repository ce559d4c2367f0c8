"""Histograms of relative changes (r), filled by the compiled loops in `kernels`.

A bin is the upper 20 of the 31 bits that a non-negative float32 has below its sign: the larger value has the larger
bits, and a bin spans at most 1/4096 of its value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knowshift.restoration.kernels import COUNT_SHIFT, count_changes
from knowshift.restoration.relative_changes import BIN_SHIFT, BINS, EPSILON, LOW, relative_changes
from knowshift.weights.bit_patterns import as_float32
from knowshift.weights.versions import PIECE, Piece

# One 64-bit integer per bin holds the number of values and the sum of the low bits that the bin leaves out. Sums are
# thus exact, so neither the order of pieces nor the number of threads changes them.
_ONE = 1 << COUNT_SHIFT
_WANTED = 1 << 63  # marks a bin whose values are wanted one by one
_INFINITY = 0x7F800000  # the bits of a float32
CAPACITY = 1 << (COUNT_SHIFT - BIN_SHIFT)  # values that a histogram can hold before a sum of low bits may overflow


@dataclass(frozen=True)
class FilledBins:
    """The bins of a histogram that are not empty.

    Attributes:
        bins: their numbers, integers of shape (n,), rising.
        counts: how many values each holds, int64 of shape (n,).
        low_sums: the sum of the low bits of the values of each, int64 of shape (n,).
    """

    bins: np.ndarray
    counts: np.ndarray
    low_sums: np.ndarray

    def sums(self) -> np.ndarray:
        """Compute the sum of the values in each bin, float64 of shape (n,)."""
        edge = (self.bins.astype(np.int32) << BIN_SHIFT).view(np.float32).astype(np.float64)
        unit = np.ldexp(1.0, np.maximum(self.bins >> (23 - BIN_SHIFT), 1) - 150)  # of the last bit of such values
        return self.counts * edge + self.low_sums * unit


def merge_bins(bins: np.ndarray, counts: np.ndarray, low_sums: np.ndarray) -> FilledBins:
    """Add up bins, see `FilledBins`, that come in any order, some of them several times."""
    bins, inverse = np.unique(bins, return_inverse=True)
    merged_counts, merged_sums = np.zeros(len(bins), np.int64), np.zeros(len(bins), np.int64)
    np.add.at(merged_counts, inverse, counts)
    np.add.at(merged_sums, inverse, low_sums)
    return FilledBins(bins, merged_counts, merged_sums)


def merge_histograms(parts: Sequence[FilledBins]) -> FilledBins:
    """Add up several histograms."""
    if len(parts) == 1:
        return parts[0]
    bins = np.concatenate([part.bins for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    return merge_bins(bins, counts, np.concatenate([part.low_sums for part in parts]))


def histogram_of(bits: np.ndarray, counts: np.ndarray) -> FilledBins:
    """Make the histogram of values that each occur several times.

    Args:
        bits: the float32 bits of the values, int32 of shape (n,).
        counts: how often each occurs, int64 of shape (n,).
    """
    return merge_bins(bits >> BIN_SHIFT, counts, counts * (bits & LOW))


class Histogram:
    """A histogram that one thread fills and empties.

    Args:
        wanted: the bins whose values are wanted one by one.

    Attributes:
        size: how many changes it holds, at most `CAPACITY`; the caller sees to that.
        unchanged: how many of them are 0.
        largest: the float32 bits of the largest.
    """

    def __init__(self, wanted: Sequence[int] | np.ndarray = ()) -> None:
        self._packed = np.zeros(BINS, np.uint64)
        self._packed[np.asarray(wanted, np.intp)] = _WANTED
        self._found = np.empty(PIECE, np.uint32)
        self._reset()

    def _reset(self) -> None:
        """Set what is known of the values back to that of none; the bins are not touched."""
        self.size, self.unchanged, self._least, self.largest = 0, 0, BINS << BIN_SHIFT, 0

    def add(self, piece: Piece) -> tuple[int, np.ndarray]:
        """Add the relative changes of a piece.

        Returns:
            How many values are 0 before training, and the float32 bits (int32, one-dimensional) of the changes above 0
            in bins whose values are wanted one by one.

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
            relative_changes(piece)  # raises if a value is not finite; otherwise r itself has overflowed
        self.size, self.unchanged = self.size + before.size, self.unchanged + same
        self._least, self.largest = min(self._least, least + 1), max(self.largest, largest)
        return zeros, self._found[:found].view(np.int32).copy()

    def drain(self) -> FilledBins:
        """Return what the histogram holds, and empty it."""
        first = self._least >> BIN_SHIFT
        bins = first + np.flatnonzero(self._packed[first : (self.largest >> BIN_SHIFT) + 1])
        if first and self._packed[0]:
            bins = np.concatenate([[0], bins])
        values = self._packed[bins]
        self._packed[bins] = values & np.uint64(_WANTED)
        values = (values & np.uint64(_WANTED - 1)).astype(np.int64)
        self._reset()
        return FilledBins(bins, values >> COUNT_SHIFT, values & (_ONE - 1))
