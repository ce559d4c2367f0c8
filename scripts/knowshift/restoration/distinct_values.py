"""Distinct pairs of values before and after training, counted by the loops in `kernels`.

Values of 16 bits that training moved a little make few different pairs, some ten thousand per tensor: these are counted, and
all else is worked out from the distinct ones.
"""

import numpy as np

from knowshift.restoration.kernels import NEAR, count_pairs, take_pairs
from knowshift.weights.bit_patterns import WIDTHS
from knowshift.weights.versions import PIECE, SEGMENT, Pairs, Piece

MANY = 1 << 21  # values: of fewer, emptying the table takes longer than a histogram

Distinct = tuple[Piece, np.ndarray]  # different pairs of values, and how often each comes


class PairTable:
    """The table in which one thread counts pairs; it is empty between two calls."""

    def __init__(self) -> None:
        self._table = np.zeros((NEAR, 1 << 15), np.uint32)
        self._places = np.empty(PIECE, np.uint32)
        self._pairs = [np.empty(SEGMENT + 2, dtype) for dtype in (np.uint16, np.uint16, np.uint32)]

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
