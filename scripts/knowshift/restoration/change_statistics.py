"""Statistics of the relative changes (r) of a region, computed without sorting them (paper, section 4.1).

They are read off a histogram (see `histograms`). It knows no shares, so a new share needs nothing to be computed again.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from knowshift.randomness import derive_seed
from knowshift.restoration.change_sums import SegmentSummer, SegmentSums, SummedBins
from knowshift.restoration.concentration import count_of
from knowshift.restoration.histograms import FilledBins, merge_histograms
from knowshift.restoration.relative_changes import BIN_SHIFT, BINS, keep_freed_memory
from knowshift.restoration.schemas import HISTOGRAM, QUANTILES, TENSORS
from knowshift.runtime.progress import progress
from knowshift.weights.regions import layer_and_module
from knowshift.weights.versions import Segment, Versions


class _BinTotals:
    """The histogram of a whole region, an entry per bin, that those of segments are added to one after another."""

    def __init__(self) -> None:
        self.count, self.low = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
        self.absolute, self.squares, self.visible = np.zeros(BINS), np.zeros(BINS), np.zeros(BINS, np.int64)

    def add(self, part: SummedBins) -> None:
        """Add the histogram of a segment."""
        self.count[part.bins] += part.counts
        self.low[part.bins] += part.low_sums
        self.absolute[part.bins] += part.absolute
        self.squares[part.bins] += part.squares
        self.visible[part.bins] += part.visible

    def columns(self, prefix: str, bins: np.ndarray) -> dict[str, np.ndarray]:
        """Return the counts and sums of some bins as columns of `HISTOGRAM`, whose names begin with `prefix`."""
        columns = {
            "count": self.count[bins],
            "sum": FilledBins(bins, self.count[bins], self.low[bins]).sums(),
            "absolute": self.absolute[bins],
            "squares": self.squares[bins],
            "visible_bfloat16": self.visible[bins],
        }
        return {prefix + name: values for name, values in columns.items()}


def measure_changes(versions: Versions, region: str, threads: int = 1, seed: int = 1) -> tuple[pa.Table, pa.Table]:
    """Make the histogram of r over a region, and statistics of r per tensor, in one pass over the weights.

    Counts, sums and means of r are exact (sums are rounded once, to float64); sums of |d| and d^2 are added up in
    float64; quantiles are the lower edge of their bin. The null line permutes the changes of each segment of a tensor
    over the parameters of this segment; most tensors are one segment.

    Args:
        versions: the model before and after training.
        region: whose parameters are measured, see `regions`.
        threads: how many threads work.
        seed: the seed of the permutations of the null line.

    Returns:
        Tables in the schemas `HISTOGRAM` (bins that are not empty) and `TENSORS`.

    Raises:
        KnowshiftError: no tensor is in the region, or a value is not finite.
    """
    keep_freed_memory()
    versions = versions.within(region)
    every, zeros, null = _BinTotals(), _BinTotals(), _BinTotals()
    rows: list[dict] = []
    segments = versions.segments()
    largest = max(segment.stop - segment.start for segment in segments)
    local = threading.local()

    def prepare() -> None:
        local.summer = SegmentSummer(largest)

    def sum_up(segment: Segment) -> SegmentSums:
        return local.summer.sum(versions, segment, derive_seed(seed, "null line", segment.name, segment.start))

    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        done = pool.map(sum_up, segments)
        parts: list[SegmentSums] = []  # of the tensor at hand
        for (name, _, stop), part in zip(progress(segments, what="comparing", unit="parts"), done, strict=True):
            every.add(part.every)
            zeros.add(part.zeros)
            null.add(part.null)
            parts.append(part)
            if stop == versions.parameters(name):
                rows.append(_tensor_row(name, parts))
                parts = []
    bins = np.flatnonzero(every.count + null.count)
    columns = every.columns("", bins) | zeros.columns("zero_", bins) | null.columns("null_", bins)
    columns["bin"] = bins.astype(np.int32)
    histogram = pa.table([columns[name] for name in HISTOGRAM.names], schema=HISTOGRAM)
    return histogram, pa.Table.from_pylist(rows, schema=TENSORS)


def _tensor_row(name: str, parts: Sequence[SegmentSums]) -> dict:
    """Make the row of `TENSORS` of one tensor from its segments."""
    every = merge_histograms([part.every for part in parts])
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
        "unchanged": sum(part.unchanged for part in parts),
        "zero_before": sum(int(part.zeros.counts.sum()) for part in parts),
        "sum": total,
        "mean": total / parameters,
        "absolute": sum(float(part.every.absolute.sum()) for part in parts),
        "squares": sum(float(part.every.squares.sum()) for part in parts),
        "visible_bfloat16": sum(int(part.every.visible.sum()) for part in parts),
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "largest": max(part.largest for part in parts),
    }
