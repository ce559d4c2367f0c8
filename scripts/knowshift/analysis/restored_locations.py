"""Where restored parameters lie: their shares by layer and by module."""

import pandas as pd
import pyarrow as pa

from knowshift.analysis.columns import table
from knowshift.analysis.schemas import RESTORED_LAYERS, RESTORED_MODULES
from knowshift.analysis.study import Study


def tabulate_where(study: Study, where: pd.DataFrame) -> tuple[pa.Table, pa.Table]:
    """Restored parameters by layer and by module, in the schemas `RESTORED_LAYERS` and `RESTORED_MODULES`.

    Args:
        study: The study whose restored conditions are tabulated.
        where: A table in the schema `RESTORED_WHERE`.
    """
    return (
        table(_shares(study, where.dropna(subset=["layer"]), "layer"), RESTORED_LAYERS),
        table(_shares(study, where, "module"), RESTORED_MODULES),
    )


def _shares(study: Study, where: pd.DataFrame, part: str) -> list[dict]:
    """Rows of each restored condition and part: its share of the restored parameters, and of all parameters.

    Conditions in which no parameter is set back, such as small shares of whole layers, have no rows.

    Args:
        study: As above.
        where: As above.
        part: The column that names the parts, `layer` or `module`.
    """
    keys = ["run", "strategy", "region", "percent"]
    # Strategies that compute new values set no parameter back.
    where = where[where.groupby(keys)["restored"].transform("sum") > 0]
    counts = where.groupby([*keys, part], as_index=False).agg({"parameters": "sum", "restored": "sum"})
    totals = counts.groupby(keys)
    counts["share"] = counts["restored"] / totals["restored"].transform("sum")
    counts["share_of_parameters"] = counts["parameters"] / totals["parameters"].transform("sum")
    rows = []
    for one in study.restorations:
        named = (counts["strategy"] == one.strategy) & (counts["region"] == one.region)
        mine = counts.loc[named & (counts["percent"] == one.percent) & counts["run"].isin(one.runs)]
        for value in sorted(mine[part].unique()) if one.percent else ():
            group = mine.loc[mine[part] == value]
            rows.append(
                {
                    **one.columns,
                    part: int(value) if part == "layer" else value,
                    "seeds": len(group),
                    "parameters": int(group["parameters"].mean()),
                    "share": float(group["share"].mean()),
                    "share_of_parameters": float(group["share_of_parameters"].mean()),
                }
            )
    return rows
