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
    """What is known of a tensor, or of a segment of one, around the bin where one share's cut falls.

    Each array has three rows: the number of parameters, the sum of their r, and the number of unchanged ones.

    Attributes:
        coarse: float64 of shape (3, 3). The columns are what lies below the bin, the bin, and what lies above.
        fine_classes: which classes occur within the bin, shape (n,), rising. The class of a key is its low bits.
        fine: float64 of shape (3, n), a column per class.
    """

    coarse: np.ndarray
    fine_classes: np.ndarray
    fine: np.ndarray


class _KeyAccumulator:
    """Adds up parameters to a `KeySums`.

    Args:
        column_of: the column of `KeySums.coarse` of every bin, shape (BINS,).
    """

    def __init__(self, column_of: np.ndarray) -> None:
        self._column_of = column_of
        self._coarse, self._fine = np.zeros((3, 3)), np.zeros((3, 1 << BIN_SHIFT))

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
        inside = np.flatnonzero(columns == 1)
        classes = keys[inside] & LOW
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
) -> list[dict[str, KeySums]]:
    """Make the second pass: add up the parameters of every tensor around the cuts.

    Every cut has sums of its own, added up in an order that does not depend on the other cuts. So what is known of a
    share has the same bits whichever shares are selected with it.

    Args:
        versions: the model before and after training.
        sort_keys: the strategy's keys.
        cuts: the bins where cuts fall, in any order; two cuts may fall into one bin.
        kept: the distinct pairs of values that the first pass has kept.
        threads: how many threads work.

    Returns:
        For each cut, the sums by tensor.

    Raises:
        KnowshiftError: a value is not finite.
    """
    bins = np.arange(BINS)
    columns = {cut: ((bins >= cut).astype(np.uint8) + (bins > cut)) for cut in cuts.tolist()}
    local = threading.local()

    def prepare() -> None:
        local.table = PairTable()
        local.histogram = Histogram(sort_keys.to_changes(cuts << BIN_SHIFT) >> BIN_SHIFT)

    def add_up(segment: Segment) -> dict[int, KeySums]:
        accumulators = {cut: _KeyAccumulator(column_of) for cut, column_of in columns.items()}
        histogram = local.histogram
        if sort_keys.by_value and (distinct := kept.get(segment) or local.table.distinct(versions, segment)):
            keys, r, _ = sort_keys.of_piece(distinct.piece, skip_unchanged=False)
            for accumulator in accumulators.values():
                accumulator.add_values(keys, r, distinct.counts.astype(float))
        elif sort_keys.by_relative_change:
            wanted = [histogram.add(piece)[1] for piece in versions.pieces(*segment)]
            unchanged, filled = histogram.unchanged, histogram.drain()
            zeros = np.where(filled.bins == 0, unchanged, 0)
            bits = np.concatenate([*wanted, np.zeros(1, np.int32)])  # changes of 0 are not told one by one, but counted
            counts = np.append(np.ones(len(bits) - 1), unchanged)
            keys, of_bins = (sort_keys.from_changes(part) for part in (bits, filled.bins << BIN_SHIFT))
            sums = filled.sums()
            for accumulator in accumulators.values():
                accumulator.add_bins(of_bins, filled.counts, sums, zeros)
                accumulator.add_values(keys, bits.view(np.float32), counts, fine_only=True)
        else:
            unchanged_key = np.int32(sort_keys.unchanged_key)
            for piece in versions.pieces(*segment):
                keys, r, left_out = sort_keys.of_piece(piece)
                counts = np.append(np.ones(len(r)), left_out)
                keys, r = np.append(keys, unchanged_key), np.append(r, np.float32(0))
                for accumulator in accumulators.values():
                    accumulator.add_values(keys, r, counts)
        return {cut: accumulator.result() for cut, accumulator in accumulators.items()}

    segments = versions.segments()
    found: dict[int, dict[str, KeySums]] = {cut: {} for cut in columns}
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        done = progress(pool.map(add_up, segments), what="selecting", unit="parts", total=len(segments))
        for (name, _, _), part in zip(segments, done, strict=True):
            for cut, tensors in found.items():
                tensors[name] = _join(tensors[name], part[cut]) if name in tensors else part[cut]
    return [found[cut] for cut in cuts.tolist()]


def _join(one: KeySums, other: KeySums) -> KeySums:
    """Add up the sums of two parts of a tensor."""
    classes = np.union1d(one.fine_classes, other.fine_classes)
    fine = np.zeros((3, len(classes)))
    for part in (one, other):
        fine[:, np.searchsorted(classes, part.fine_classes)] += part.fine
    return KeySums(one.coarse + other.coarse, classes, fine)
