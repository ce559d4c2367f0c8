"""Where restored parameters sit, by layer and by module."""

import pandas as pd
import pyarrow as pa

from knowshift.analysis.columns import table
from knowshift.analysis.schemas import (
    RESTORED_LAYERS,
    RESTORED_MODULES,
)
from knowshift.analysis.study import Study


def tabulate_where(study: Study, where: pd.DataFrame) -> tuple[pa.Table, pa.Table]:
    """Restored parameters by layer and by module, in the schemas `RESTORED_LAYERS` and `RESTORED_MODULES`.

    Args:
        where: a table in the schema `RESTORED_WHERE`.
    """
    return (
        table(_shares(study, where[where["layer"].notna()], "layer"), RESTORED_LAYERS),
        table(_shares(study, where, "module"), RESTORED_MODULES),
    )


def _shares(study: Study, where: pd.DataFrame, part: str) -> list[dict]:
    keys = ["run", "strategy", "region", "percent"]
    sums = where.groupby([*keys, part])[["parameters", "restored"]].sum()
    totals = where.groupby(keys)[["parameters", "restored"]].sum()
    sums["share"] = sums["restored"] / totals["restored"].reindex(sums.index.droplevel(part)).to_numpy()
    sums["share_of_parameters"] = (
        sums["parameters"] / totals["parameters"].reindex(sums.index.droplevel(part)).to_numpy()
    )
    sums = sums.reset_index()
    rows = []
    for one in study.restorations:
        named = (sums["strategy"] == one.strategy) & (sums["region"] == one.region) & (sums["percent"] == one.percent)
        mine = sums[named & sums["run"].isin(one.runs)] if one.percent else sums[:0]
        for value, group in mine.groupby(part):
            means = group[["parameters", "share", "share_of_parameters"]].mean()
            head = {**one.columns, part: int(value) if part == "layer" else value, "seeds": len(group)}
            rows.append(head | means.to_dict() | {"parameters": int(means["parameters"])})
    return rows
