"""Counting the relative changes of a part of a tensor with the loops in `kernels`.

Values of 16 bits that training moved a little make few different pairs (before, after), some ten thousand per tensor: these
are counted, and all else is worked out from the distinct ones. Others are counted in a histogram over the upper bits of the
float32 values of r: for non-negative floats the order of the bits is the order of the numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knowshift.changes import BIN_SHIFT, BINS, EPSILON, LOW, changes
from knowshift.floats import WIDTHS, as_float32
from knowshift.kernels import COUNT_SHIFT, NEAR, count_changes, count_pairs, take_pairs
from knowshift.pairs import PIECE, SEGMENT, Pairs, Piece

Distinct = tuple[Piece, np.ndarray]  # different pairs of values, and how often each comes

# One 64-bit integer per bin holds the number of values and the sum of the bits that the bin leaves out: sums are exact,
# so neither the order of pieces nor the number of threads changes them.
_ONE = 1 << COUNT_SHIFT
_WANTED = 1 << 63
_INFINITY = 0x7F800000
MANY = 1 << 21  # values: of fewer, emptying the table takes longer than a histogram
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


class Counter:
    """The working memory of one thread: a histogram, which is filled and emptied, and a table of pairs.

    Args:
        wanted: bins whose values are wanted one by one.

    Attributes:
        size: how many changes the histogram holds; it has room for `ROOM`.
        unchanged: how many of them are 0.
        largest: the bits of the largest.
    """

    def __init__(self, wanted: Sequence[int] | np.ndarray = ()) -> None:
        self._packed = np.zeros(BINS, np.uint64)
        self._packed[np.asarray(wanted, np.intp)] = _WANTED
        self._table = np.zeros((NEAR, 1 << 15), np.uint32)
        self._places = np.empty(PIECE, np.uint32)
        self._pairs = [np.empty(SEGMENT + 2, dtype) for dtype in (np.uint16, np.uint16, np.uint32)]
        self._clear()

    def _clear(self) -> None:
        self.size, self.unchanged, self._least, self.largest = 0, 0, BINS << BIN_SHIFT, 0

    def add(self, piece: Piece) -> tuple[int, np.ndarray]:
        """Add the changes of a piece to the histogram.

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
            before, after, np.uint32(shift), EPSILON, BIN_SHIFT, self._packed, self._places
        )
        if largest >= _INFINITY:
            changes(piece)  # tells what is not finite; if nothing is, r itself is too large
        self.size, self.unchanged = self.size + before.size, self.unchanged + same
        self._least, self.largest = min(self._least, least + 1), max(self.largest, largest)
        return zeros, self._places[:found].view(np.int32).copy()

    def take(self) -> Filled:
        """Empty the histogram."""
        first = self._least >> BIN_SHIFT
        bins = first + np.flatnonzero(self._packed[first : (self.largest >> BIN_SHIFT) + 1])
        if first and self._packed[0]:
            bins = np.concatenate([[0], bins])
        values = self._packed[bins]
        self._packed[bins] = values & np.uint64(_WANTED)
        values = (values & np.uint64(_WANTED - 1)).astype(np.int64)
        self._clear()
        return Filled(bins, values >> COUNT_SHIFT, values & (_ONE - 1))

    def distinct(self, pairs: Pairs, name: str, start: int, stop: int) -> Distinct | None:
        """The distinct pairs of values in a part of a tensor, and how often each comes, but for the sign both share.

        Values that did not change stand together as one pair, and those that are 0 as another.

        None where that is no help: for types that have not 16 bits, few values, or values that moved far.
        """
        if WIDTHS[pairs.dtypes[name]] != 2 or stop - start < MANY:
            return None
        before, after, counts = self._pairs
        far, same, zeros, least, largest = 0, 0, 0, 0x7FFF, 0
        for piece in pairs.pieces(name, start, stop):
            if piece.start == start:
                first = slice(1 << 12)
                moved = np.abs(piece.tuned[first].astype(np.int32) - piece.base[first])
                if np.count_nonzero(moved >= NEAR // 2) > moved.size // 16:
                    return None
            p, s = piece.base.view(np.uint16), piece.tuned.view(np.uint16)
            hits, equal, zero, low, high = count_pairs(p, s, self._table, self._places)
            same, zeros, least, largest = same + equal, zeros + zero, min(least, low), max(largest, high)
            here, places = slice(far, far + hits), self._places[:hits]
            before[here], after[here], counts[here] = p[places], s[places], 1
            far += hits
        end = far + take_pairs(self._table, least, largest, before[far:], after[far:], counts[far:])
        for value, count in ((largest, same - zeros), (0, zeros)):  # if a value is not finite, the largest is not
            before[end], after[end], counts[end] = value, value, count
            end += 1
        sides = (side[:end].view(np.int16).copy() for side in (before, after))
        return Piece(name, start, pairs.dtypes[name], *sides), counts[:end].astype(np.int64)
