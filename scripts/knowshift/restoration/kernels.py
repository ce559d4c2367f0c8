"""Loops over all weights of a model, compiled by numba.

Each reads an element once, where numpy would walk over it a dozen times. They do not hold Python's global lock, so
threads run side by side. Compiled code is kept beside this file or, where that cannot be written, in the user's cache
directory (NUMBA_CACHE_DIR names another).

Integers are cast back to their width after each operation, because numba, unlike numpy, widens them to 64 bits, which
costs half of the speed. What other modules define comes as an argument: compiled code keeps the values of globals, and
is not compiled again when another module changes.
"""

from collections.abc import Callable

import numpy as np
from numba import njit, uint32, uint64

COUNT_SHIFT = 36  # bits of the sum of low bits that stands below a count in one 64-bit integer
NEAR = 128  # a table counts pairs whose values lie fewer than NEAR / 2 units in the last place apart
_BLOCK = 2048  # elements of a block: what is computed from them stays in the processor's first-level cache
_STEP = 16  # entries of a table that are passed over at once if all are 0
_ONE = uint64(1 << COUNT_SHIFT)
_GOLDEN = uint64(0x9E3779B97F4A7C15)  # of SplitMix64, as in `randomness`
_INFINITY = uint32(0x7F800000)  # the bits of a float32


def _compiled(function: Callable) -> Callable:
    """Compile a function when it is first called, without Python's global lock."""
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # there is nowhere to keep the code: compile it in each process
        return njit(nogil=True, error_model="numpy")(function)


@_compiled
def count_changes(before, after, shift, epsilon, bin_shift, packed, found):
    """Add the relative changes r of a piece of a tensor to a histogram of their float32 bits.

    Args:
        before: the values before training, unsigned integers of shape (n,). Shifted to the left by `shift`, they are
            the bits of float32 values.
        after: the values after training, of the same type and shape.
        shift: see `before`.
        epsilon: float32, added to the denominator.
        bin_shift: how many low bits of r a bin leaves out.
        packed: uint64, an entry per bin: the number of values and, below it, the sum of their low bits. Where the
            highest bit is set, the values of the bin are wanted one by one.
        found: uint32 of shape (n,) at least: is filled with the bits of the values above 0 that are wanted one by one.

    Returns:
        How many r are 0; how many values before training are 0; the smallest bits above 0, less 1; the largest bits;
        how many entries of `found` are filled. If the largest bits are those of a NaN, counting has stopped.
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
        if same > p.size // 4:  # leave out those of 0: additions to one bin wait for one another
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
def compare(before, after, changes, visible):
    """Compute the absolute changes d of a piece of a tensor, and whether bfloat16 tells the two values apart.

    Args:
        before: the bits of the float32 values before training, uint32 of shape (n,).
        after: those after training, of the same type and shape.
        changes: float32 of shape (n,): is filled with |after - before|.
        visible: uint8 of shape (n,): is filled with 1 where the values still differ once both are rounded to bfloat16
            (to the nearest, ties to even), else with 0.
    """
    for i in range(before.size):
        p, s = uint32(before[i]), uint32(after[i])
        changes[i] = abs(np.uint32(s).view(np.float32) - np.uint32(p).view(np.float32))
        old = uint32(uint32(p + uint32(0x7FFF) + uint32(uint32(p >> uint32(16)) & uint32(1))) >> uint32(16))
        new = uint32(uint32(s + uint32(0x7FFF) + uint32(uint32(s >> uint32(16)) & uint32(1))) >> uint32(16))
        visible[i] = (old != new) & (uint32(uint32(old | new) & uint32(0x7FFF)) != 0)  # 0 and -0 are one value


@_compiled
def add_changes(before, changes, visible, zeros, epsilon, bin_shift, packed, absolute, squares, seen):
    """Add changes to a histogram of relative changes r = d / (|before| + epsilon), with sums of d beside the counts.

    Args:
        before: the values before training, float32 of shape (n,).
        changes: the absolute changes d, float32 of the same shape, none negative.
        visible: uint8 of the same shape, see `compare`.
        zeros: whether parameters that were exactly 0 before training count; if not, they are left out.
        epsilon: float32, added to the denominator.
        bin_shift: how many low bits of r a bin leaves out.
        packed: uint64, an entry per bin: the number of values and, below it, the sum of their low bits.
        absolute: float64, an entry per bin: the sum of d.
        squares: float64, an entry per bin: the sum of d^2.
        seen: uint64, an entry per bin: the sum of `visible`.

    Returns:
        How many r are 0; the smallest bits above 0, less 1; the largest bits. If the largest bits are those of a NaN,
        adding has stopped.
    """
    bits, indices = np.empty(_BLOCK, np.uint32), np.empty(_BLOCK, np.uint32)
    bin_shift, low = uint64(bin_shift), uint64((1 << bin_shift) - 1)
    unchanged = uint64(0)
    least, largest = uint32(0xFFFFFFFF), uint32(0)
    for start in range(0, before.size, _BLOCK):
        p, d, v = before[start : start + _BLOCK], changes[start : start + _BLOCK], visible[start : start + _BLOCK]
        for i in range(p.size):
            r = np.float32(d[i] / (abs(p[i]) + epsilon)).view(np.uint32)
            bits[i] = r
            least = min(least, uint32(r - uint32(1)))
            largest = max(largest, r)
        if largest > _INFINITY:
            break
        size, same = uint64(0), uint64(0)
        for i in range(p.size):  # leave out those of 0: additions to one bin wait for one another
            counts = zeros or p[i] != 0
            indices[size] = i
            size += uint64(counts and bits[i] != 0)
            same += uint64(counts and bits[i] == 0)
        unchanged += same
        packed[0] += same * _ONE
        for entry in range(size):
            i = indices[entry]
            value, change = uint64(bits[i]), np.float64(d[i])
            bin_ = value >> bin_shift
            packed[bin_] += value & low | _ONE
            absolute[bin_] += change
            squares[bin_] += change * change
            seen[bin_] += uint64(v[i])
    return unchanged, least, largest


@_compiled
def permute(values, key):
    """Bring values into a random order, each order as likely as any other, in place (Fisher and Yates).

    Args:
        values: float32 of shape (n,), fewer than 2^24 + 1 of them.
        key: uint64, the stream that the random numbers are drawn from, as `counter_bits` does.
    """
    for i in range(values.size - 1, 0, -1):
        bits = uint64(key + uint64(i + 1) * _GOLDEN)
        bits = uint64(uint64(bits ^ uint64(bits >> uint64(30))) * uint64(0xBF58476D1CE4E5B9))
        bits = uint64(uint64(bits ^ uint64(bits >> uint64(27))) * uint64(0x94D049BB133111EB))
        bits = uint64(bits ^ uint64(bits >> uint64(31)))
        other = uint64(uint64(uint64(bits >> uint64(24)) * uint64(i + 1)) >> uint64(40))  # from 0 to i
        held = values[i]
        values[i] = values[other]
        values[other] = held


@_compiled
def count_pairs(before, after, table, far):
    """Count how often each pair of different 16-bit floats occurs, leaving out a sign that both share.

    Args:
        before: the values before training, uint16 of shape (n,).
        after: the values after training, uint16 of shape (n,).
        table: uint32 of shape (NEAR, 2^15). The row is the distance of the two values in units in the last place, plus
            NEAR / 2; the column is the bits of the value before, without the sign. The row of distance 0 means nothing:
            it takes what is not to be counted, spread out, because additions to one entry wait for one another.
        far: uint32 of shape (n,) at least: is filled with the indices of pairs that are too far apart for the table.

    Returns:
        How many pairs are too far apart; how many are equal; how many are equal and 0; the smallest and the largest
        bits before, without the sign.
    """
    entries, wide = np.empty(_BLOCK, np.uint32), np.zeros(_BLOCK, np.uint8)
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
            entries[i] = (
                uint32(uint32(NEAR // 2 << 15) + uint32(i)) if aside else uint32(uint32(row << uint32(15)) + size)
            )
            same = uint32(same + uint32(old == new))
            zero = uint32(zero + uint32(uint32(old == new) & uint32(size == 0)))
            least, largest = min(least, size), max(largest, size)
        unchanged, zeros = unchanged + same, zeros + zero
        for i in range(p.size):
            counts[uint64(entries[i])] += uint32(1)
        for word in range(_BLOCK // 8):
            if eight[word]:  # which is rare
                for i in range(8 * word, 8 * word + 8):
                    if wide[i]:
                        far[hits] = start + i
                        hits += uint64(1)
    return hits, unchanged, zeros, least, largest


@_compiled
def take_pairs(table, least, largest, before, after, counts):
    """Take the pairs that `count_pairs` has counted out of its table, which is empty afterwards.

    Args:
        table: the table.
        least: the smallest bits before, without the sign.
        largest: the largest bits before, without the sign.
        before: uint16, long enough for all pairs: is filled with the values before training.
        after: uint16, as long: is filled with the values after training.
        counts: uint32, as long: is filled with how often each pair occurs.

    Returns:
        How many different pairs there were.
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
