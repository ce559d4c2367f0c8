"""Columns that many tables share, and the making of tables from rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from knowshift.analysis.estimates import Estimate, mean_of


def known(value: float | None) -> float | None:
    """A number as a column holds it: None where it is None or NaN."""
    return None if value is None or np.isnan(value) else float(value)


def spread(values: Sequence[float]) -> float | None:
    """The standard deviation over seeds; None with one seed."""
    return known(float(np.std(values, ddof=1))) if len(values) > 1 else None


def estimate_columns(name: str, estimates: Sequence[Estimate]) -> dict:
    """The columns of a mean over seeds: the value under `name`, its spread, and the ends of its interval."""
    mean = mean_of(estimates)
    spreads = spread([estimate.value for estimate in estimates])
    return {name: known(mean.value), "spread": spreads, "low": known(mean.low), "high": known(mean.high)}


def interval_columns(name: str, estimate: Estimate) -> dict:
    """The columns of a number and the ends of its interval: `name`, `name_low` and `name_high`."""
    return {name: known(estimate.value), f"{name}_low": known(estimate.low), f"{name}_high": known(estimate.high)}


def table(rows: Sequence[dict], schema: pa.Schema) -> pa.Table:
    """Make a table of rows; a column that a row lacks is null."""
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
