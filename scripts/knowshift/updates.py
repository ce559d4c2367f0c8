"""What can be said of relative changes without sorting them (paper, section 4.1).

The histogram runs over the upper bits of the float32 values of r: for non-negative floats the order of the bits is the
order of the numbers, and a bin spans at most 1/4096 of its value. It knows no shares, so a new share needs nothing new.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import pyarrow as pa

from knowshift.change_tables import HISTOGRAM, QUANTILES, TENSORS, count_of
from knowshift.changes import BIN_SHIFT, BINS, LOW, changes
from knowshift.pairs import Pairs
from knowshift.progress import progress
from knowshift.regions import layer_and_module

# One 64-bit integer per bin holds the number of values and the sum of the bits that the bin leaves out: sums are exact,
# so neither the order of pieces nor the number of threads changes them.
_COUNT_SHIFT = 36
_ONE = 1 << _COUNT_SHIFT


@dataclass(frozen=True)
class _Filled:
    """The bins of a histogram that are not empty, rising, with the number of values and the sum of their low bits."""

    bins: np.ndarray
    count: np.ndarray
    low: np.ndarray

    def sums(self) -> np.ndarray:
        """The sum of the values of each bin (float64)."""
        edge = (self.bins.astype(np.int32) << BIN_SHIFT).view(np.float32).astype(np.float64)
        unit = np.ldexp(1.0, np.maximum(self.bins >> (23 - BIN_SHIFT), 1) - 150)  # of the last bit of such values
        return self.count * edge + self.low * unit


def _add(packed: np.ndarray, bits: np.ndarray) -> None:
    value = (bits & LOW).astype(np.int64)
    value |= _ONE
    np.add.at(packed, (bits >> BIN_SHIFT).astype(np.intp), value)


def _take(packed: np.ndarray, lowest: int, largest: int) -> _Filled:
    """Empty a histogram whose values' bits lie between two, except for those of 0."""
    first = lowest >> BIN_SHIFT
    bins = first + np.flatnonzero(packed[first : (largest >> BIN_SHIFT) + 1])
    if first and packed[0]:
        bins = np.concatenate([[0], bins])
    values = packed[bins]
    packed[bins] = 0
    return _Filled(bins, values >> _COUNT_SHIFT, values & (_ONE - 1))


def _merge(parts: list[_Filled]) -> _Filled:
    if len(parts) == 1:
        return parts[0]
    bins, inverse = np.unique(np.concatenate([part.bins for part in parts]), return_inverse=True)
    count, low = np.zeros(len(bins), np.int64), np.zeros(len(bins), np.int64)
    np.add.at(count, inverse, np.concatenate([part.count for part in parts]))
    np.add.at(low, inverse, np.concatenate([part.low for part in parts]))
    return _Filled(bins, count, low)


@dataclass(frozen=True)
class _Part:
    """What is known of a segment of a tensor: histograms of all parameters and of those that were 0; the largest r."""

    every: _Filled
    zeros: _Filled
    unchanged: int
    largest: float


def _summarise(pairs: Pairs, name: str, start: int, stop: int, packed: np.ndarray, of_zeros: np.ndarray) -> _Part:
    """Summarise a segment with the help of two empty histograms, which are empty again afterwards."""
    unchanged, lowest, largest = 0, BINS << BIN_SHIFT, 0
    for piece in pairs.pieces(name, start, stop):
        change = changes(piece)
        bits = change.r.view(np.int32)
        _add(packed, bits)
        packed[0] += change.same * _ONE
        zeros = change.before == 0
        if zeros.any():
            _add(of_zeros, bits[zeros])
        if change.same:
            of_zeros[0] += (np.count_nonzero(piece.base << 1 == 0) - np.count_nonzero(zeros)) * _ONE
        unchanged += change.same + bits.size - np.count_nonzero(bits)
        if bits.size:
            largest = max(largest, int(bits.max()))
            lowest = min(lowest, int((bits - 1).view(np.uint32).min()) + 1)  # of those above 0
    value = float(np.int32(largest).view(np.float32))
    return _Part(_take(packed, lowest, largest), _take(of_zeros, lowest, largest), unchanged, value)


def summarise(pairs: Pairs, region: str, threads: int = 1) -> tuple[pa.Table, pa.Table]:
    """Histogram of r over a region, and statistics per tensor, in one pass.

    Counts, sums and means are exact (sums rounded once, to float64); quantiles are the lower edge of their bin.

    Returns:
        Tables in the schemas `HISTOGRAM` (non-empty bins) and `TENSORS`.
    """
    pairs = pairs.within(region)
    count, low = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    zero_count, zero_low = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    rows: list[dict] = []
    segments = pairs.segments()
    free: SimpleQueue[list[np.ndarray]] = SimpleQueue()
    for _ in range(threads):
        free.put([np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)])

    def work(segment: tuple[str, int, int]) -> _Part:
        histograms = free.get()
        try:
            return _summarise(pairs, *segment, *histograms)
        finally:
            free.put(histograms)

    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(work, segments)
        parts: list[_Part] = []
        for (name, _, stop), part in zip(progress(segments, what="comparing", unit="parts"), done, strict=True):
            parts.append(part)
            if stop < pairs.parameters(name):
                continue
            every, zeros = _merge([p.every for p in parts]), _merge([p.zeros for p in parts])
            count[every.bins] += every.count
            low[every.bins] += every.low
            zero_count[zeros.bins] += zeros.count
            zero_low[zeros.bins] += zeros.low
            rows.append(_row(name, every, zeros, sum(p.unchanged for p in parts), max(p.largest for p in parts)))
            parts = []
    bins = np.flatnonzero(count)
    sums = _Filled(bins, count[bins], low[bins]).sums()
    zero_sums = _Filled(bins, zero_count[bins], zero_low[bins]).sums()
    histogram = pa.table([bins.astype(np.int32), count[bins], sums, zero_count[bins], zero_sums], schema=HISTOGRAM)
    return histogram, pa.Table.from_pylist(rows, schema=TENSORS)


def _row(name: str, every: _Filled, zeros: _Filled, unchanged: int, largest: float) -> dict:
    """A row of `TENSORS`."""
    layer, module = layer_and_module(name)
    parameters, total = int(every.count.sum()), float(every.sums().sum())
    ranks = np.maximum([count_of(parameters, 100 * share) for share in QUANTILES.values()], 1)
    places = np.searchsorted(np.cumsum(every.count), ranks)
    quantiles = (every.bins[places].astype(np.int32) << BIN_SHIFT).view(np.float32).tolist()
    return {
        "tensor": name,
        "layer": layer,
        "module": module,
        "parameters": parameters,
        "unchanged": unchanged,
        "zero_before": int(zeros.count.sum()),
        "sum": total,
        "mean": total / parameters,
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "largest": largest,
    }
