"""Relative changes of parameters, and what can be said of them without sorting (paper, section 4.1).

The histogram runs over the upper bits of the float32 values of r: for non-negative floats the order of the bits is the
order of the numbers, and a bin spans at most 1/4096 of its value. It knows no shares, so a new share needs nothing new.
"""

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pyarrow as pa
import torch

from knowshift.regions import in_region, layer_and_module

EPSILON = 1e-8  # added to the denominator, as the authors' released tool does
BIN_SHIFT = 11  # bits of r below a bin: 31 - 11 = 20 bits of exponent and mantissa
BINS = 1 << (31 - BIN_SHIFT)

HISTOGRAM = pa.schema(
    [
        pa.field("bin", pa.int32(), False, {"doc": f"float32 bits of r, shifted right by {BIN_SHIFT}"}),
        pa.field("count", pa.int64(), False),
        pa.field("sum", pa.float64(), False, {"doc": "sum of r in the bin"}),
        pa.field("zero_count", pa.int64(), False, {"doc": "those whose value before training is exactly 0"}),
        pa.field("zero_sum", pa.float64(), False),
    ]
)

TENSORS = pa.schema(
    [
        pa.field("tensor", pa.string(), False),
        pa.field("layer", pa.int32(), True),
        pa.field("module", pa.string(), False),
        pa.field("parameters", pa.int64(), False),
        pa.field("unchanged", pa.int64(), False, {"doc": "parameters with the same value before and after"}),
        pa.field("zero_before", pa.int64(), False, {"doc": "parameters that were exactly 0"}),
        pa.field("sum", pa.float64(), False, {"doc": "sum of r"}),
        pa.field("largest", pa.float64(), False, {"doc": "largest r"}),
    ]
)


def relative_change(base: torch.Tensor, tuned: torch.Tensor) -> torch.Tensor:
    """r = |tuned - base| / (|base| + 1e-8) in float32 arithmetic, flat, for tensors of any float dtype."""
    before = base.reshape(-1).float()
    return (tuned.reshape(-1).float() - before).abs_().div_(before.abs().add_(EPSILON))


def order_bits(r: torch.Tensor) -> torch.Tensor:
    """The bits of non-negative float32 values as int32: they sort as the values do."""
    return r.contiguous().view(torch.int32)


def summarise(pairs: Iterable[tuple[str, torch.Tensor, torch.Tensor]], region: str) -> tuple[pa.Table, pa.Table]:
    """Histogram of r over a region, and statistics per tensor, in one pass; sums are float64.

    Args:
        pairs: (name, base, tuned), one at a time.
        region: see `regions`.

    Returns:
        Tables in the schemas `HISTOGRAM` (non-empty bins) and `TENSORS`.
    """
    count, total = np.zeros(BINS, np.int64), np.zeros(BINS)
    zero_count, zero_total = np.zeros(BINS, np.int64), np.zeros(BINS)
    rows = []
    for name, base, tuned in pairs:
        if not in_region(name, region):
            continue
        r = relative_change(base, tuned)
        bins = (order_bits(r) >> BIN_SHIFT).long()
        weights = r.double()
        count += torch.bincount(bins, minlength=BINS).numpy()
        total += torch.bincount(bins, weights, minlength=BINS).numpy()
        zeros = base.reshape(-1) == 0
        if zeros.any():
            zero_count += torch.bincount(bins[zeros], minlength=BINS).numpy()
            zero_total += torch.bincount(bins[zeros], weights[zeros], minlength=BINS).numpy()
        layer, module = layer_and_module(name)
        rows.append(
            {
                "tensor": name,
                "layer": layer,
                "module": module,
                "parameters": r.numel(),
                "unchanged": int((r == 0).sum()),
                "zero_before": int(zeros.sum()),
                "sum": float(weights.sum()),
                "largest": float(r.max()),
            }
        )
    filled = np.nonzero(count)[0]
    columns = [filled.astype(np.int32), count[filled], total[filled], zero_count[filled], zero_total[filled]]
    return pa.table(columns, schema=HISTOGRAM), pa.Table.from_pylist(rows, schema=TENSORS)


def count_of(parameters: int, percent: float) -> int:
    """floor(n * k / 100), exactly."""
    return int(parameters * Fraction(str(percent)) / 100)


def concentration(counts: np.ndarray, sums: np.ndarray, percent: float) -> float:
    """The share of sum(r) that the `percent` of parameters with the largest r hold, from a histogram in order of r.

    Within the one bin where the cut falls the bin's mean stands for each value; as a bin spans at most 1/4096 of its
    value, the share is off by less than 1/4096 of what that bin holds.

    Returns:
        A share between 0 and 1; 0 if nothing changed at all.
    """
    wanted = count_of(int(counts.sum()), percent)
    falling_counts, falling_sums = counts[::-1], sums[::-1]
    cumulative = np.cumsum(falling_counts)
    whole = int(np.searchsorted(cumulative, wanted, side="right"))
    held = float(falling_sums[:whole].sum())
    taken = int(cumulative[whole - 1]) if whole else 0
    if whole < len(counts) and wanted > taken:
        held += float(falling_sums[whole]) * (wanted - taken) / int(falling_counts[whole])
    total = float(sums.sum())
    return held / total if total else 0.0
