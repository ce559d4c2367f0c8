"""Loss curves of training, with few enough points to be drawn."""

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.analysis.columns import table
from knowshift.analysis.schemas import LOSS_CURVES
from knowshift.analysis.study import Study

POINTS = 100  # of a loss curve, at most


def tabulate_loss(study: Study, losses: pd.DataFrame) -> pa.Table:
    """The loss of every condition at up to `POINTS` points, mean and range over seeds, in the schema `LOSS_CURVES`.

    Args:
        study: The study whose conditions are tabulated.
        losses: A table in the schema `TRAINING_LOSS`.
    """
    by_run = {str(run): group for run, group in losses.groupby("run")}
    rows = []
    for condition in study.conditions:
        curves = [by_run[run] for run in condition.runs if run in by_run]
        if not curves:
            continue
        width = int(np.ceil(max(curve["step"].max() for curve in curves) / POINTS))  # steps that a point stands for
        points = [curve["loss"].groupby((curve["step"] - 1) // width).mean() for curve in curves]
        wide = pd.DataFrame(dict(enumerate(points)))
        middle = wide.index.to_numpy() * width + (width + 1) / 2
        columns = {"step": middle, "loss": wide.mean(axis=1), "lowest": wide.min(axis=1), "highest": wide.max(axis=1)}
        rows += [{**condition.columns, "seeds": len(curves), **row} for row in pd.DataFrame(columns).to_dict("records")]
    return table(rows, LOSS_CURVES)
