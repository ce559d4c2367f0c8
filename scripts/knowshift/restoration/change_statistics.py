"""What can be said of relative changes without sorting them (paper, section 4.1).

The histogram runs over the upper bits of the float32 values of r: for non-negative floats the order of the bits is the
order of the numbers, and a bin spans at most 1/4096 of its value. It knows no shares, so a new share needs nothing new.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from knowshift.restoration.concentration import count_of
from knowshift.restoration.distinct_values import PairTable
from knowshift.restoration.histograms import Filled, Histogram, fill, join
from knowshift.restoration.relative_changes import BIN_SHIFT, BINS, changes, keep_freed_memory
from knowshift.restoration.schemas import HISTOGRAM, QUANTILES, TENSORS
from knowshift.runtime.progress import progress
from knowshift.weights.regions import layer_and_module
from knowshift.weights.versions import Pairs


def _merge(parts: list[Filled]) -> Filled:
    if len(parts) == 1:
        return parts[0]
    return join(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("bins", "count", "low")))


@dataclass(frozen=True)
class _Part:
    """What is known of a segment of a tensor: histograms of all parameters and of those that were 0; the largest r."""

    every: Filled
    zeros: Filled
    unchanged: int
    largest: float


def _summarise(table: PairTable, histogram: Histogram, pairs: Pairs, name: str, start: int, stop: int) -> _Part:
    if (distinct := table.distinct(pairs, name, start, stop)) is not None:
        change = changes(distinct[0], skip=False)
        bits, counts, zeros = change.r.view(np.int32), distinct[1], change.before == 0
        every, of_zeros = fill(bits, counts), fill(bits[zeros], counts[zeros])
        unchanged, largest = int(counts[bits == 0].sum()), int(bits.max(initial=0))
    else:
        of_zeros = [np.empty(0, np.int32)]
        for piece in pairs.pieces(name, start, stop):
            zeros, _ = histogram.add(piece)
            if zeros:
                change = changes(piece, skip=False)
                of_zeros.append(change.r.view(np.int32)[change.before == 0])
        bits = np.concatenate(of_zeros)
        unchanged, largest = histogram.unchanged, histogram.largest
        every, of_zeros = histogram.take(), fill(bits, np.ones(len(bits), np.int64))
    return _Part(every, of_zeros, unchanged, float(np.int32(largest).view(np.float32)))


def summarise(pairs: Pairs, region: str, threads: int = 1) -> tuple[pa.Table, pa.Table]:
    """Histogram of r over a region, and statistics per tensor, in one pass.

    Counts, sums and means are exact (sums rounded once, to float64); quantiles are the lower edge of their bin.

    Returns:
        Tables in the schemas `HISTOGRAM` (non-empty bins) and `TENSORS`.
    """
    keep_freed_memory()
    pairs = pairs.within(region)
    count, low = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    zero_count, zero_low = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    rows: list[dict] = []
    segments = pairs.segments()
    local = threading.local()

    def prepare() -> None:
        local.working = PairTable(), Histogram()

    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        done = pool.map(lambda segment: _summarise(*local.working, pairs, *segment), segments)
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
    sums = Filled(bins, count[bins], low[bins]).sums()
    zero_sums = Filled(bins, zero_count[bins], zero_low[bins]).sums()
    histogram = pa.table([bins.astype(np.int32), count[bins], sums, zero_count[bins], zero_sums], schema=HISTOGRAM)
    return histogram, pa.Table.from_pylist(rows, schema=TENSORS)


def _row(name: str, every: Filled, zeros: Filled, unchanged: int, largest: float) -> dict:
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
