"""Loss curves of training, thinned for drawing."""

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.analysis.columns import table
from knowshift.analysis.schemas import (
    LOSS_CURVES,
)
from knowshift.analysis.study import Study

POINTS = 100  # of a loss curve, at most


def tabulate_loss(study: Study, losses: pd.DataFrame) -> pa.Table:
    """Loss curves with at most `POINTS` points, mean and range over seeds, in the schema `LOSS_CURVES`.

    Args:
        losses: a table in the schema `TRAINING_LOSS`.
    """
    by_run = dict(iter(losses.groupby("run")[["step", "loss"]]))
    rows = []
    for condition in study.conditions:
        curves = [by_run[run] for run in condition.runs if run in by_run]
        if not curves:
            continue
        width = int(np.ceil(max(curve["step"].max() for curve in curves) / POINTS))
        wide = pd.concat([curve.groupby((curve["step"] - 1) // width)["loss"].mean() for curve in curves], axis=1)
        middle = wide.index.to_numpy() * width + (width + 1) / 2
        columns = {"step": middle, "loss": wide.mean(1), "lowest": wide.min(1), "highest": wide.max(1)}
        points = pd.DataFrame(columns).to_dict("records")
        rows += [{**condition.columns, "seeds": len(curves)} | point for point in points]
    return table(rows, LOSS_CURVES)
