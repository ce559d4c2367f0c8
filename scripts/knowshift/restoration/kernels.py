"""Loops over all weights of a model, compiled by numba: each reads an element once, where numpy walks over it a dozen times.

They hold no lock, so threads run side by side. Compiled code is kept beside this file, or, where that cannot be written, in
the user's cache directory (NUMBA_CACHE_DIR names another). Integers are cast back to their width after each operation,
because numba, unlike numpy, widens them to 64 bits, which costs half of the speed. What other modules define comes as an
argument: compiled code keeps the values of globals, and is not compiled again when another module changes.
"""

from collections.abc import Callable

import numpy as np
from numba import njit, uint32, uint64

COUNT_SHIFT = 36  # of an integer that holds a count and, below it, a sum of low bits
NEAR = 128  # pairs that are counted in a table lie fewer than NEAR / 2 units in the last place apart
_BLOCK = 2048  # elements: what is computed from them stays in the processor's nearest cache
_STEP = 16  # elements of a table that are passed over at once if all are 0
_ONE = uint64(1 << COUNT_SHIFT)
_INFINITY = uint32(0x7F800000)


def _compiled(function: Callable) -> Callable:
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # nowhere to keep it: compiled in each process
        return njit(nogil=True, error_model="numpy")(function)


@_compiled
def count_changes(before, after, shift, epsilon, bin_shift, packed, found):
    """Add the relative changes of a piece of a tensor to a histogram of their bits.

    Args:
        before, after: unsigned integers, which shifted to the left by `shift` are the bits of float32 values.
        epsilon: float32, added to the denominator.
        bin_shift: how many of the bits of r lie below its bin.
        packed: uint64 per bin: the number of values and the sum of the bits that the bin leaves out. Where the highest bit is
            set, values are wanted one by one.
        found: uint32, as long as `before`: gets the bits of values above 0 that are wanted one by one.

    Returns:
        How many values are 0; how many were 0 before; the least bits above 0 less 1; the largest bits; how many were found.
        If the largest are those of no number, counting has stopped.
    """
    bits = np.empty(_BLOCK, np.uint32)
    bin_shift, low = uint64(bin_shift), uint64((1 << bin_shift) - 1)
    unchanged, zeros, hits = uint64(0), uint64(0), uint64(0)
    least, largest = uint32(0xFFFFFFFF), uint32(0)
    for start in range(0, before.size, _BLOCK):
        p, s = before[start : start + _BLOCK], after[start : start + _BLOCK]
        same, zero = uint32(0), uint32(0)
        for i in range(p.size):
            old = np.uint32(uint32(p[i]) << shift).view(np.float32)
            new = np.uint32(uint32(s[i]) << shift).view(np.float32)
            r = np.float32(abs(new - old) / (abs(old) + epsilon)).view(np.uint32)
            bits[i] = r
            zero = uint32(zero + uint32(old == 0))
            same = uint32(same + uint32(r == 0))
            least = min(least, uint32(r - uint32(1)))
            largest = max(largest, r)
        if largest > _INFINITY:
            break
        unchanged, zeros, size = unchanged + same, zeros + zero, uint64(p.size)
        if same > p.size // 4:  # additions to one bin wait for one another
            size = uint64(0)
            for i in range(p.size):
                bits[size] = bits[i]
                size += uint64(bits[i] != 0)
            packed[0] += same * _ONE
        for i in range(size):
            value = uint64(bits[i])
            packed[value >> bin_shift] += value & low | _ONE
            if packed[value >> bin_shift] >> uint64(63) and value:
                found[hits] = value
                hits += uint64(1)
    return unchanged, zeros, least, largest, hits


@_compiled
def count_pairs(before, after, table, far):
    """Count how often two different 16-bit floats come together, but for the sign that both share.

    Args:
        before, after: uint16.
        table: (NEAR, 2^15) uint32: by the distance of the two, and the bits before without the sign. The row of distance 0
            means nothing: it takes what is not to be counted, spread out, as additions to one place wait for one another.
        far: uint32, as long as `before`: gets the places of pairs that are too far apart for the table.

    Returns:
        How many are too far apart, equal, and equal and 0; the least and the largest bits before, without the sign.
    """
    places, wide = np.empty(_BLOCK, np.uint32), np.zeros(_BLOCK, np.uint8)
    eight, counts = wide.view(np.uint64), table.reshape(-1)
    hits, unchanged, zeros = uint64(0), uint64(0), uint64(0)
    least, largest = uint32(0x7FFF), uint32(0)
    for start in range(0, before.size, _BLOCK):
        p, s = before[start : start + _BLOCK], after[start : start + _BLOCK]
        same, zero = uint32(0), uint32(0)
        wide[p.size :] = 0
        for i in range(p.size):
            old, new = uint32(p[i]), uint32(s[i])
            size = uint32(old & uint32(0x7FFF))
            row = uint32(uint32(uint32(new ^ uint32(old & uint32(0x8000))) - size) + uint32(NEAR // 2))
            wide[i] = row >= uint32(NEAR)
            aside = (old == new) | (row >= uint32(NEAR))
            places[i] = (
                uint32(uint32(NEAR // 2 << 15) + uint32(i)) if aside else uint32(uint32(row << uint32(15)) + size)
            )
            same = uint32(same + uint32(old == new))
            zero = uint32(zero + uint32(uint32(old == new) & uint32(size == 0)))
            least, largest = min(least, size), max(largest, size)
        unchanged, zeros = unchanged + same, zeros + zero
        for i in range(p.size):
            counts[uint64(places[i])] += uint32(1)
        for word in range(_BLOCK // 8):
            if eight[word]:  # few are
                for i in range(8 * word, 8 * word + 8):
                    if wide[i]:
                        far[hits] = start + i
                        hits += uint64(1)
    return hits, unchanged, zeros, least, largest


@_compiled
def take_pairs(table, least, largest, before, after, counts):
    """Empty a table of `count_pairs`.

    Args:
        least, largest: what bits before lie between.
        before, after, counts: uint16, uint16 and uint32, long enough for all pairs in the table.

    Returns:
        How many different pairs were there.
    """
    taken = uint64(0)
    table[NEAR // 2, :_BLOCK] = 0
    for row in range(NEAR):
        for start in range(least // _STEP * _STEP, largest + 1, _STEP):
            some = uint32(0)
            for size in range(start, start + _STEP):
                some |= table[row, size]
            if some == 0:
                continue
            for size in range(start, start + _STEP):
                if table[row, size]:
                    before[taken], after[taken], counts[taken] = size, size + row - NEAR // 2, table[row, size]
                    table[row, size] = 0
                    taken += uint64(1)
    return taken
