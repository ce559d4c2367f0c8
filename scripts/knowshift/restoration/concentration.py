"""The share of the summed relative change that the most changed parameters hold."""

from fractions import Fraction

import numpy as np


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
