"""Histograms of relative changes (r) that hold sums of the changes themselves beside the counts, and the null line.

The null line is what a histogram would be if changes had nothing to do with the values that they change: the changes of
a tensor are permuted over its parameters at random.
"""

from dataclasses import dataclass

import numpy as np

from knowshift.restoration.histograms import COUNT_SHIFT, FilledBins
from knowshift.restoration.kernels import add_changes, compare, permute
from knowshift.restoration.relative_changes import BIN_SHIFT, BINS, EPSILON, relative_changes
from knowshift.weights.bit_patterns import as_float32
from knowshift.weights.versions import PIECE, Segment, Versions

_INFINITY = 0x7F800000  # the bits of a float32


@dataclass(frozen=True)
class SummedBins(FilledBins):
    """The bins of a histogram that are not empty, with sums of the changes d in each, arrays of shape (n,).

    Attributes:
        absolute: the sum of |d|, float64.
        squares: the sum of d^2, float64.
        visible: how many changes bfloat16 sees, int64.
    """

    absolute: np.ndarray
    squares: np.ndarray
    visible: np.ndarray


class SumHistogram:
    """A histogram of relative changes with sums of changes, which one thread fills and empties.

    It may hold as many changes as a segment has.

    Attributes:
        unchanged: how many of the relative changes are 0.
        largest: the float32 bits of the largest.
    """

    def __init__(self) -> None:
        # The four numbers of a bin lie side by side, so that an addition touches one line of the cache.
        self._memory = np.zeros((BINS, 4))
        self._packed, self._absolute = self._memory[:, 0].view(np.uint64), self._memory[:, 1]
        self._squares, self._seen = self._memory[:, 2], self._memory[:, 3].view(np.uint64)
        self._reset()

    def _reset(self) -> None:
        self.unchanged, self._least, self.largest = 0, BINS << BIN_SHIFT, 0

    def add(self, before: np.ndarray, changes: np.ndarray, visible: np.ndarray, zeros: bool) -> bool:
        """Add changes.

        Args:
            before: values before training, float32 of shape (n,).
            changes: their absolute changes, float32 of shape (n,).
            visible: whether bfloat16 sees each change, uint8 of shape (n,).
            zeros: whether parameters that were exactly 0 before training count.

        Returns:
            Whether all relative changes are finite; if not, some may have been left out.
        """
        same, least, largest = add_changes(
            before,
            changes,
            visible,
            zeros,
            EPSILON,
            BIN_SHIFT,
            self._packed,
            self._absolute,
            self._squares,
            self._seen,
        )
        self.unchanged += same
        self._least, self.largest = min(self._least, least + 1), max(self.largest, largest)
        return largest < _INFINITY

    def drain(self) -> SummedBins:
        """Return what the histogram holds, and empty it."""
        first = min(self._least >> BIN_SHIFT, BINS)
        bins = first + np.flatnonzero(self._packed[first : (self.largest >> BIN_SHIFT) + 1])
        if first and self._packed[0]:
            bins = np.concatenate([[0], bins])
        packed = self._packed[bins].astype(np.int64)
        found = SummedBins(
            bins,
            packed >> COUNT_SHIFT,
            packed & ((1 << COUNT_SHIFT) - 1),
            self._absolute[bins],
            self._squares[bins],
            self._seen[bins].astype(np.int64),
        )
        self._memory[bins] = 0
        self._reset()
        return found


@dataclass(frozen=True)
class SegmentSums:
    """The changes of a segment of a tensor.

    Attributes:
        every: the histogram of all relative changes.
        zeros: that of parameters that were exactly 0 before training.
        null: that of permuted changes, without parameters that were exactly 0 before training.
        unchanged: how many relative changes are 0.
        largest: the largest.
    """

    every: SummedBins
    zeros: SummedBins
    null: SummedBins
    unchanged: int
    largest: float


class SegmentSummer:
    """What one thread sums up the changes of segments with.

    Args:
        largest: the number of elements of the largest segment.
    """

    def __init__(self, largest: int) -> None:
        self._histogram = SumHistogram()
        self._before, self._changes = np.empty(largest, np.float32), np.empty(largest, np.float32)
        self._visible, self._none = np.empty(PIECE, np.uint8), np.zeros(PIECE, np.uint8)

    def sum(self, versions: Versions, segment: Segment, stream: int) -> SegmentSums:
        """Sum up the changes of a segment, as they are and permuted.

        Args:
            versions: the model before and after training.
            segment: the segment.
            stream: the seed of the permutation, of 63 bits.

        Raises:
            KnowshiftError: a value is not finite.
        """
        name, start, stop = segment
        histogram, zero_values = self._histogram, []
        before, changes = self._before[: stop - start], self._changes[: stop - start]
        for piece in versions.pieces(name, start, stop):
            here = slice(piece.start - start, piece.start - start + piece.base.size)
            old, new = (as_float32(side, piece.dtype) for side in (piece.base, piece.tuned))
            visible = self._visible[: old.size]
            before[here] = old
            with np.errstate(over="ignore", invalid="ignore"):
                compare(old.view(np.uint32), new.view(np.uint32), changes[here], visible)
            if not histogram.add(before[here], changes[here], visible, True):
                relative_changes(piece)  # raises if a value is not finite; otherwise r itself has overflowed
            if len(indices := np.flatnonzero(old == 0)):
                zero_values.append((changes[here][indices], visible[indices]))
        unchanged, largest = histogram.unchanged, histogram.largest
        every = histogram.drain()
        for values, visible in zero_values:
            histogram.add(np.zeros_like(values), values, visible, True)
        zeros = histogram.drain()
        permute(changes, np.uint64(stream))
        for first in range(0, len(before), PIECE):
            part = slice(first, first + PIECE)
            histogram.add(before[part], changes[part], self._none[: len(before[part])], False)
        null = histogram.drain()
        return SegmentSums(every, zeros, null, int(unchanged), float(np.int32(largest).view(np.float32)))
