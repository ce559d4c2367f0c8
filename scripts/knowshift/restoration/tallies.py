"""Two passes over the weights of a region: how many sort keys each bin holds, then what lies where cuts fall, by tensor."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from knowshift.restoration.distinct_values import Distinct, PairTable
from knowshift.restoration.histograms import ROOM, Histogram
from knowshift.restoration.relative_changes import BIN_SHIFT, BINS, LOW
from knowshift.restoration.sort_keys import Ranking
from knowshift.runtime.progress import progress
from knowshift.weights.versions import Pairs

KEPT = 1 << 24  # distinct pairs that the first pass leaves in memory for the second

Segment = tuple[str, int, int]


def count_keys(pairs: Pairs, ranking: Ranking, threads: int = 1) -> tuple[np.ndarray, dict[Segment, Distinct]]:
    """The number of keys in each of the `BINS` bins, over all tensors of `pairs`; distinct pairs that were met and kept."""
    segments, kept, local = pairs.segments(), {}, threading.local()

    def prepare() -> None:
        local.table, local.left = PairTable(), KEPT // threads
        local.histogram, local.counts = Histogram(), np.zeros(BINS, np.int64)
        every.append((local.histogram, local.counts))

    def empty(histogram: Histogram, counts: np.ndarray) -> None:
        filled = histogram.take()
        counts[ranking.of_bits(filled.bins << BIN_SHIFT) >> BIN_SHIFT] += filled.count

    def count(segment: Segment) -> None:
        counts = local.counts
        if ranking.by_value and (distinct := local.table.distinct(pairs, *segment)):
            keys, _, _ = ranking.keys(distinct[0], skip=False)
            np.add.at(counts, (keys >> BIN_SHIFT).astype(np.intp), distinct[1])
            if len(keys) <= local.left:
                local.left -= len(keys)
                kept[segment] = distinct
            return
        if local.histogram.size + segment[2] - segment[1] > ROOM:
            empty(local.histogram, counts)
        for piece in pairs.pieces(*segment):
            if ranking.by_relative_change:
                local.histogram.add(piece)
            else:
                keys, _, same = ranking.keys(piece)
                np.add.at(counts, (keys >> BIN_SHIFT).astype(np.intp), 1)
                counts[ranking.unchanged_key >> BIN_SHIFT] += same

    every: list[tuple[Histogram, np.ndarray]] = []
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        list(progress(pool.map(count, segments), what="ranking", unit="parts", total=len(segments)))
    for one in every:
        empty(*one)
    return sum(counts for _, counts in every), kept


@dataclass(frozen=True)
class Tally:
    """Of one tensor (or a part of one): number, sum of r and number unchanged, each per class of parameters.

    Attributes:
        classes: (3, 2m+1) for m bins where cuts fall: 2j+1 is the j-th of them, 2j what lies below it and above the last.
        places, inside: the finer classes (j << 11 | the low bits of the key) that occur in those bins, and (3, …).
    """

    classes: np.ndarray
    places: np.ndarray
    inside: np.ndarray


class _Adding:
    """Adds up the parameters of one part by class.

    Args:
        class_of: by bin.
        cuts: how many bins cuts fall into.
    """

    def __init__(self, class_of: np.ndarray, cuts: int) -> None:
        self._class_of = class_of
        self._classes, self._inside = np.zeros((3, 2 * cuts + 1)), np.zeros((3, cuts << BIN_SHIFT))

    def values(self, keys: np.ndarray, r: np.ndarray, number: np.ndarray, whole: bool = True) -> None:
        """Add values with these keys and relative changes, each so many times; if not `whole`, to the finer classes only."""
        sums = number, number * r, number * (r == 0)
        kind = np.take(self._class_of, keys >> BIN_SHIFT).astype(np.intp)
        if whole:
            self._add(kind, sums)
        there = np.flatnonzero((kind & 1).astype(bool))  # numpy is quick with bool
        places = (kind[there] >> 1 << BIN_SHIFT) | (keys[there] & LOW)
        for row, one in zip(self._inside, sums, strict=True):
            np.add.at(row, places, one[there])

    def bins(self, keys: np.ndarray, number: np.ndarray, total: np.ndarray, unchanged: np.ndarray) -> None:
        """Add whole bins, which hold these keys, to the classes that are not finer."""
        self._add(np.take(self._class_of, keys >> BIN_SHIFT).astype(np.intp), (number, total, unchanged))

    def _add(self, kind: np.ndarray, sums: tuple[np.ndarray, ...]) -> None:
        for row, one in zip(self._classes, sums, strict=True):
            row += np.bincount(kind, one, row.size)

    def tally(self) -> Tally:
        """What was added."""
        places = np.flatnonzero(self._inside[0])
        return Tally(self._classes, places, self._inside[:, places])


def tally_keys(
    pairs: Pairs, ranking: Ranking, cuts: np.ndarray, kept: dict[Segment, Distinct], threads: int
) -> dict[str, Tally]:
    """The second pass: every tensor's parameters by class.

    Args:
        cuts: the bins where cuts fall, rising.
        kept: of the first pass.
    """
    rises = np.zeros(BINS + 1, np.uint16)  # the class rises where a bin with a cut begins, and where it ends
    np.add.at(rises, np.concatenate([cuts, cuts + 1]), 1)
    class_of = np.cumsum(rises[:-1], dtype=np.uint16)
    local = threading.local()

    def prepare() -> None:
        local.table = PairTable()
        local.histogram = Histogram(ranking.of_bits(cuts << BIN_SHIFT) >> BIN_SHIFT)

    def tally(segment: Segment) -> Tally:
        adding, histogram = _Adding(class_of, len(cuts)), local.histogram
        if ranking.by_value and (distinct := kept.get(segment) or local.table.distinct(pairs, *segment)):
            keys, r, _ = ranking.keys(distinct[0], skip=False)
            adding.values(keys, r, distinct[1].astype(float))
        elif ranking.by_relative_change:
            wanted = [histogram.add(piece)[1] for piece in pairs.pieces(*segment)]
            unchanged, filled = histogram.unchanged, histogram.take()
            zeros = np.where(filled.bins == 0, unchanged, 0)
            adding.bins(ranking.of_bits(filled.bins << BIN_SHIFT), filled.count, filled.sums(), zeros)
            bits = np.concatenate([*wanted, np.zeros(1, np.int32)])  # those of 0 are counted, not wanted
            number = np.append(np.ones(len(bits) - 1), unchanged)
            adding.values(ranking.of_bits(bits), bits.view(np.float32), number, whole=False)
        else:
            for piece in pairs.pieces(*segment):
                keys, r, same = ranking.keys(piece)
                number = np.append(np.ones(len(r)), same)
                adding.values(np.append(keys, np.int32(ranking.unchanged_key)), np.append(r, np.float32(0)), number)
        return adding.tally()

    segments = pairs.segments()
    found: dict[str, Tally] = {}
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        done = progress(pool.map(tally, segments), what="selecting", unit="parts", total=len(segments))
        for (name, _, _), part in zip(segments, done, strict=True):
            found[name] = _join(found[name], part) if name in found else part
    return found


def _join(one: Tally, other: Tally) -> Tally:
    places = np.union1d(one.places, other.places)
    inside = np.zeros((3, len(places)))
    for part in (one, other):
        inside[:, np.searchsorted(places, part.places)] += part.inside
    return Tally(one.classes + other.classes, places, inside)
