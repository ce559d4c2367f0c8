"""The two passes over the weights of a region that an exact selection takes.

The first counts how many sort keys each bin holds (a bin is the upper 20 of a key's 31 bits), which tells in which bins
the cuts between restored and other parameters fall. The second looks into these bins, tensor by tensor.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from knowshift.restoration.distinct_values import DistinctPairs, PairTable
from knowshift.restoration.histograms import CAPACITY, Histogram
from knowshift.restoration.relative_changes import BIN_SHIFT, BINS, LOW
from knowshift.restoration.sort_keys import SortKeys
from knowshift.runtime.progress import progress
from knowshift.weights.versions import Segment, Versions

KEPT_PAIRS = 1 << 24  # distinct pairs that the first pass leaves in memory for the second, over all threads

KeptPairs = dict[Segment, DistinctPairs]


def count_keys(versions: Versions, sort_keys: SortKeys, threads: int = 1) -> tuple[np.ndarray, KeptPairs]:
    """Make the first pass: count the sort keys in each bin, over all tensors.

    Returns:
        How many keys each bin holds (int64 of shape (BINS,)), and the distinct pairs of values of as many segments as
        `KEPT_PAIRS` allows.

    Raises:
        KnowshiftError: a value is not finite.
    """
    segments, kept, local = versions.segments(), {}, threading.local()

    def prepare() -> None:
        local.table, local.left = PairTable(), KEPT_PAIRS // threads
        local.histogram, local.counts = Histogram(), np.zeros(BINS, np.int64)
        of_threads.append((local.histogram, local.counts))

    def empty(histogram: Histogram, counts: np.ndarray) -> None:
        filled = histogram.drain()
        counts[sort_keys.from_changes(filled.bins << BIN_SHIFT) >> BIN_SHIFT] += filled.counts

    def count(segment: Segment) -> None:
        counts = local.counts
        if sort_keys.by_value and (distinct := local.table.distinct(versions, segment)):
            keys, _, _ = sort_keys.of_piece(distinct.piece, skip_unchanged=False)
            np.add.at(counts, (keys >> BIN_SHIFT).astype(np.intp), distinct.counts)
            if len(keys) <= local.left:
                local.left -= len(keys)
                kept[segment] = distinct
            return
        if local.histogram.size + segment.stop - segment.start > CAPACITY:
            empty(local.histogram, counts)
        for piece in versions.pieces(*segment):
            if sort_keys.by_relative_change:
                local.histogram.add(piece)
            else:
                keys, _, left_out = sort_keys.of_piece(piece)
                np.add.at(counts, (keys >> BIN_SHIFT).astype(np.intp), 1)
                counts[sort_keys.unchanged_key >> BIN_SHIFT] += left_out

    of_threads: list[tuple[Histogram, np.ndarray]] = []
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        list(progress(pool.map(count, segments), what="counting sort keys", unit="parts", total=len(segments)))
    total = np.zeros(BINS, np.int64)
    for histogram, counts in of_threads:
        empty(histogram, counts)
        total += counts
    return total, kept


@dataclass(frozen=True)
class KeySums:
    """What is known of a tensor, or of a segment of one, around the m bins where cuts fall.

    Each array has three rows: the number of parameters, the sum of their r, and the number of unchanged ones.

    Attributes:
        coarse: float64 of shape (3, 2m + 1). Column 2j + 1 is the j-th bin with a cut, column 2j what lies below it and
            above the bin before.
        fine_classes: which classes occur within the bins with a cut, shape (n,), rising. The class of a key is its low
            bits, and above them the j of its bin.
        fine: float64 of shape (3, n), a column per class.
    """

    coarse: np.ndarray
    fine_classes: np.ndarray
    fine: np.ndarray


class _KeyAccumulator:
    """Adds up parameters to a `KeySums`.

    Args:
        column_of: the column of `KeySums.coarse` of every bin, shape (BINS,).
        cuts: m, the number of bins where cuts fall.
    """

    def __init__(self, column_of: np.ndarray, cuts: int) -> None:
        self._column_of = column_of
        self._coarse, self._fine = np.zeros((3, 2 * cuts + 1)), np.zeros((3, cuts << BIN_SHIFT))

    def add_values(self, keys: np.ndarray, r: np.ndarray, counts: np.ndarray, fine_only: bool = False) -> None:
        """Add parameters with these keys and relative changes.

        Args:
            keys: int32 of shape (n,).
            r: float32 of shape (n,).
            counts: how many parameters have each key, float64 of shape (n,).
            fine_only: add them to the classes within bins only, because `add_bins` has added them to the others.
        """
        sums = counts, counts * r, counts * (r == 0)
        columns = np.take(self._column_of, keys >> BIN_SHIFT).astype(np.intp)
        if not fine_only:
            self._add(columns, sums)
        inside = np.flatnonzero((columns & 1).astype(bool))  # numpy is quick with bool
        classes = (columns[inside] >> 1 << BIN_SHIFT) | (keys[inside] & LOW)
        for row, values in zip(self._fine, sums, strict=True):
            np.add.at(row, classes, values[inside])

    def add_bins(self, keys: np.ndarray, counts: np.ndarray, sums: np.ndarray, unchanged: np.ndarray) -> None:
        """Add whole bins, each told by one of its keys, to the coarse sums; all arrays have the shape (bins,)."""
        self._add(np.take(self._column_of, keys >> BIN_SHIFT).astype(np.intp), (counts, sums, unchanged))

    def _add(self, columns: np.ndarray, sums: tuple[np.ndarray, ...]) -> None:
        """Add the three sums of each key to its column of the coarse sums."""
        for row, values in zip(self._coarse, sums, strict=True):
            row += np.bincount(columns, values, row.size)

    def result(self) -> KeySums:
        """Return what was added."""
        classes = np.flatnonzero(self._fine[0])
        return KeySums(self._coarse, classes, self._fine[:, classes])


def sum_around_cuts(
    versions: Versions, sort_keys: SortKeys, cuts: np.ndarray, kept: KeptPairs, threads: int
) -> dict[str, KeySums]:
    """Make the second pass: add up the parameters of every tensor around the cuts.

    Args:
        versions: the model before and after training.
        sort_keys: the strategy's keys.
        cuts: the bins where cuts fall, rising.
        kept: the distinct pairs of values that the first pass has kept.
        threads: how many threads work.

    Raises:
        KnowshiftError: a value is not finite.
    """
    rises = np.zeros(BINS + 1, np.uint16)  # the column rises where a bin with a cut begins, and where it ends
    np.add.at(rises, np.concatenate([cuts, cuts + 1]), 1)
    column_of = np.cumsum(rises[:-1], dtype=np.uint16)
    local = threading.local()

    def prepare() -> None:
        local.table = PairTable()
        local.histogram = Histogram(sort_keys.to_changes(cuts << BIN_SHIFT) >> BIN_SHIFT)

    def add_up(segment: Segment) -> KeySums:
        accumulator, histogram = _KeyAccumulator(column_of, len(cuts)), local.histogram
        if sort_keys.by_value and (distinct := kept.get(segment) or local.table.distinct(versions, segment)):
            keys, r, _ = sort_keys.of_piece(distinct.piece, skip_unchanged=False)
            accumulator.add_values(keys, r, distinct.counts.astype(float))
        elif sort_keys.by_relative_change:
            wanted = [histogram.add(piece)[1] for piece in versions.pieces(*segment)]
            unchanged, filled = histogram.unchanged, histogram.drain()
            zeros = np.where(filled.bins == 0, unchanged, 0)
            accumulator.add_bins(sort_keys.from_changes(filled.bins << BIN_SHIFT), filled.counts, filled.sums(), zeros)
            bits = np.concatenate([*wanted, np.zeros(1, np.int32)])  # changes of 0 are not told one by one, but counted
            counts = np.append(np.ones(len(bits) - 1), unchanged)
            accumulator.add_values(sort_keys.from_changes(bits), bits.view(np.float32), counts, fine_only=True)
        else:
            unchanged_key = np.int32(sort_keys.unchanged_key)
            for piece in versions.pieces(*segment):
                keys, r, left_out = sort_keys.of_piece(piece)
                counts = np.append(np.ones(len(r)), left_out)
                accumulator.add_values(np.append(keys, unchanged_key), np.append(r, np.float32(0)), counts)
        return accumulator.result()

    segments = versions.segments()
    found: dict[str, KeySums] = {}
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        done = progress(pool.map(add_up, segments), what="selecting", unit="parts", total=len(segments))
        for (name, _, _), part in zip(segments, done, strict=True):
            found[name] = _join(found[name], part) if name in found else part
    return found


def _join(one: KeySums, other: KeySums) -> KeySums:
    """Add up the sums of two parts of a tensor."""
    classes = np.union1d(one.fine_classes, other.fine_classes)
    fine = np.zeros((3, len(classes)))
    for part in (one, other):
        fine[:, np.searchsorted(classes, part.fine_classes)] += part.fine
    return KeySums(one.coarse + other.coarse, classes, fine)
