"""How much of the summed relative change the most changed parameters hold (paper, section 4.1)."""

from fractions import Fraction

import numpy as np


def count_of(parameters: int, percent: float) -> int:
    """Compute how many of `parameters` a share of `percent` is: floor(n * k / 100), without floating-point error."""
    return int(parameters * Fraction(str(percent)) / 100)


def concentration(counts: np.ndarray, sums: np.ndarray, percent: float) -> float:
    """Compute which share of sum(r) the `percent` of parameters with the largest r hold.

    Within the one histogram bin where the cut falls, the bin's mean stands for each value. A bin spans at most 1/4096
    of its value, so the share is off by less than 1/4096 of what that bin holds.

    Args:
        counts: parameters in each bin of the histogram, int64 of shape (bins,), in rising order of r.
        sums: sum of r in each bin, float64 of the same shape.
        percent: the share of the parameters, 0 to 100.

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
