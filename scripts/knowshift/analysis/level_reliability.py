"""How reliable the mastery levels of a model are, by domain and split."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.analysis.columns import known, table
from knowshift.analysis.knowledge_schemas import LEVEL_REGRESSION, LEVEL_RELIABILITY
from knowshift.mastery.reliability import measure_reliability, regress_levels
from knowshift.mastery.schemas import LEVELS

Z = 1.96  # standard errors from a mean to the ends of its 95 % interval


def tabulate_level_reliability(mastery: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Compare the two halves of the completions, in the schemas `LEVEL_RELIABILITY` and `LEVEL_REGRESSION`.

    Args:
        mastery: A table in the schema `MASTERY`.

    Returns:
        Agreement and correlations, and the expected R per observed level; for each domain and split, and for all facts.
    """
    columns = ["domain", "split", "half_mastery", "half_levels", "successes"]
    frame = mastery.select(columns).to_pandas()
    reliability, regression = [], []
    for head, part in _groups(frame):
        halves = np.array(part["half_mastery"].tolist(), float)
        levels = np.array(part["half_levels"].tolist(), float)
        found = measure_reliability(halves, levels, np.array(part["successes"].tolist(), float))
        between = [value for value in found.template_correlations if not np.isnan(value)]
        reliability.append(
            {
                **head,
                "facts": found.facts,
                "agreement": known(found.agreement),
                "correlation": known(found.correlation),
                "spearman_brown": known(found.spearman_brown),
                "template_correlation": float(np.mean(between)) if between else None,
                "template_lowest": min(between, default=None),
                "template_highest": max(between, default=None),
            }
        )
        for row in regress_levels(halves, levels, LEVELS):
            ends = (known(row.expected - Z * row.error), known(row.expected + Z * row.error))
            low, high = (None if end is None else min(1.0, max(0.0, end)) for end in ends)
            regression.append(
                {
                    **head,
                    "level": row.level,
                    "facts": row.facts,
                    "observed": row.observed,
                    "expected": row.expected,
                    "low": low,
                    "high": high,
                    "same_level": row.same_level,
                }
            )
    return table(reliability, LEVEL_RELIABILITY), table(regression, LEVEL_REGRESSION)


def _groups(frame: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """All facts, then those of each domain and split, with the columns that name them."""
    if len(frame):
        yield {"domain": None, "split": None}, frame
    for (domain, split), part in frame.groupby(["domain", "split"], sort=True):
        yield {"domain": domain, "split": split}, part
