"""Statistics of the relative changes (r) of a region, computed without sorting them (paper, section 4.1).

They are read off a histogram (see `histograms`). It knows no shares, so a new share needs nothing to be computed again.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from knowshift.restoration.concentration import count_of
from knowshift.restoration.distinct_values import PairTable
from knowshift.restoration.histograms import FilledBins, Histogram, histogram_of, merge_histograms
from knowshift.restoration.relative_changes import BIN_SHIFT, BINS, keep_freed_memory, relative_changes
from knowshift.restoration.schemas import HISTOGRAM, QUANTILES, TENSORS
from knowshift.runtime.progress import progress
from knowshift.weights.regions import layer_and_module
from knowshift.weights.versions import Segment, Versions


@dataclass(frozen=True)
class _SegmentChanges:
    """The relative changes of a segment of a tensor.

    Attributes:
        every: the histogram of all of them.
        zeros: the histogram of those of parameters that were 0 before training.
        unchanged: how many are 0.
        largest: the largest.
    """

    every: FilledBins
    zeros: FilledBins
    unchanged: int
    largest: float


def _measure_segment(table: PairTable, histogram: Histogram, versions: Versions, segment: Segment) -> _SegmentChanges:
    """Measure one segment; `table` and `histogram` belong to the thread, and are empty before and after."""
    if (distinct := table.distinct(versions, segment)) is not None:
        changes = relative_changes(distinct.piece, skip_unchanged=False)
        bits, counts, zeros = changes.r.view(np.int32), distinct.counts, changes.before == 0
        every, of_zeros = histogram_of(bits, counts), histogram_of(bits[zeros], counts[zeros])
        unchanged, largest = int(counts[bits == 0].sum()), int(bits.max(initial=0))
    else:
        zero_bits = [np.empty(0, np.int32)]
        for piece in versions.pieces(*segment):
            zeros, _ = histogram.add(piece)
            if zeros:
                changes = relative_changes(piece, skip_unchanged=False)
                zero_bits.append(changes.r.view(np.int32)[changes.before == 0])
        bits = np.concatenate(zero_bits)
        unchanged, largest = histogram.unchanged, histogram.largest
        every, of_zeros = histogram.drain(), histogram_of(bits, np.ones(len(bits), np.int64))
    return _SegmentChanges(every, of_zeros, unchanged, float(np.int32(largest).view(np.float32)))


def measure_changes(versions: Versions, region: str, threads: int = 1) -> tuple[pa.Table, pa.Table]:
    """Make the histogram of r over a region, and statistics of r per tensor, in one pass over the weights.

    Counts, sums and means are exact (sums are rounded once, to float64); quantiles are the lower edge of their bin.

    Args:
        versions: the model before and after training.
        region: whose parameters are measured, see `regions`.
        threads: how many threads work.

    Returns:
        Tables in the schemas `HISTOGRAM` (bins that are not empty) and `TENSORS`.

    Raises:
        KnowshiftError: no tensor is in the region, or a value is not finite.
    """
    keep_freed_memory()
    versions = versions.within(region)
    count, low = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    zero_count, zero_low = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    rows: list[dict] = []
    segments = versions.segments()
    local = threading.local()

    def prepare() -> None:
        local.table, local.histogram = PairTable(), Histogram()

    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        done = pool.map(lambda segment: _measure_segment(local.table, local.histogram, versions, segment), segments)
        parts: list[_SegmentChanges] = []  # of the tensor at hand
        for (name, _, stop), part in zip(progress(segments, what="comparing", unit="parts"), done, strict=True):
            parts.append(part)
            if stop < versions.parameters(name):
                continue
            every, zeros = merge_histograms([p.every for p in parts]), merge_histograms([p.zeros for p in parts])
            count[every.bins] += every.counts
            low[every.bins] += every.low_sums
            zero_count[zeros.bins] += zeros.counts
            zero_low[zeros.bins] += zeros.low_sums
            rows.append(_tensor_row(name, every, zeros, sum(p.unchanged for p in parts), max(p.largest for p in parts)))
            parts = []
    bins = np.flatnonzero(count)
    sums = FilledBins(bins, count[bins], low[bins]).sums()
    zero_sums = FilledBins(bins, zero_count[bins], zero_low[bins]).sums()
    histogram = pa.table([bins.astype(np.int32), count[bins], sums, zero_count[bins], zero_sums], schema=HISTOGRAM)
    return histogram, pa.Table.from_pylist(rows, schema=TENSORS)


def _tensor_row(name: str, every: FilledBins, zeros: FilledBins, unchanged: int, largest: float) -> dict:
    """Make the row of `TENSORS` of one tensor; see `_SegmentChanges` for the arguments."""
    layer, module = layer_and_module(name)
    parameters, total = int(every.counts.sum()), float(every.sums().sum())
    ranks = np.maximum([count_of(parameters, 100 * share) for share in QUANTILES.values()], 1)
    indices = np.searchsorted(np.cumsum(every.counts), ranks)
    quantiles = (every.bins[indices].astype(np.int32) << BIN_SHIFT).view(np.float32).tolist()
    return {
        "tensor": name,
        "layer": layer,
        "module": module,
        "parameters": parameters,
        "unchanged": unchanged,
        "zero_before": int(zeros.counts.sum()),
        "sum": total,
        "mean": total / parameters,
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "largest": largest,
    }
