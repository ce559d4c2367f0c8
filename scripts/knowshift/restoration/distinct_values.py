"""The distinct pairs of a value before and a value after training, and how often each occurs.

16-bit values that training moved a little form few different pairs, some ten thousand per tensor. They are counted by
the compiled loops in `kernels`, and all else is computed from the distinct ones.
"""

from typing import NamedTuple

import numpy as np

from knowshift.restoration.kernels import NEAR, count_pairs, take_pairs
from knowshift.weights.bit_patterns import WIDTHS
from knowshift.weights.versions import PIECE, SEGMENT, Piece, Segment, Versions

FEWEST = 1 << 21  # values: with fewer, emptying the table takes longer than filling a histogram


class DistinctPairs(NamedTuple):
    """The distinct pairs of values in a segment.

    Attributes:
        piece: the pairs, n values before and after training; its `start` is that of the segment.
        counts: how often each pair occurs, int64 of shape (n,).
    """

    piece: Piece
    counts: np.ndarray


class PairTable:
    """The table in which one thread counts pairs; it is empty between two calls."""

    def __init__(self) -> None:
        self._table = np.zeros((NEAR, 1 << 15), np.uint32)
        self._far = np.empty(PIECE, np.uint32)
        self._pairs = [np.empty(SEGMENT + 2, dtype) for dtype in (np.uint16, np.uint16, np.uint32)]

    def distinct(self, versions: Versions, segment: Segment) -> DistinctPairs | None:
        """Count the distinct pairs of values in a segment.

        Pairs that differ only in a sign that both values share count as one. Values that did not change stand together
        as one pair, and those of them that are 0 as another. A pair may be listed more than once.

        Returns:
            The pairs, or None where they would save no time: for types that have not 16 bits, for few values, and for
            values that moved far.
        """
        name, start, stop = segment
        if WIDTHS[versions.dtypes[name]] != 2 or stop - start < FEWEST:
            return None
        before, after, counts = self._pairs
        far, same, zeros, least, largest = 0, 0, 0, 0x7FFF, 0
        for piece in versions.pieces(name, start, stop):
            if piece.start == start:
                sample = slice(1 << 12)
                moved = np.abs(piece.tuned[sample].astype(np.int32) - piece.base[sample])
                if np.count_nonzero(moved >= NEAR // 2) > moved.size // 16:
                    return None
            p, s = piece.base.view(np.uint16), piece.tuned.view(np.uint16)
            hits, equal, zero, low, high = count_pairs(p, s, self._table, self._far)
            same, zeros, least, largest = same + equal, zeros + zero, min(least, low), max(largest, high)
            here, indices = slice(far, far + hits), self._far[:hits]
            before[here], after[here], counts[here] = p[indices], s[indices], 1
            far += hits
        end = far + take_pairs(self._table, least, largest, before[far:], after[far:], counts[far:])
        # The largest value stands for all unchanged ones but 0: if any of them is not finite, the largest is not.
        for value, count in ((largest, same - zeros), (0, zeros)):
            before[end], after[end], counts[end] = value, value, count
            end += 1
        base, tuned = (side[:end].view(np.int16).copy() for side in (before, after))
        return DistinctPairs(Piece(name, start, versions.dtypes[name], base, tuned), counts[:end].astype(np.int64))
