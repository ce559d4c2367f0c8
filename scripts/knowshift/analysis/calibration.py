"""Where restored parameters lie, how loss fell, and how probability and answers agree."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.estimates import calibration_bins, calibration_error
from knowshift.analysis.recommendation import chosen_restoration
from knowshift.analysis.schemas import (
    CALIBRATION,
    CALIBRATION_ERRORS,
    LOSS_CURVES,
    RESTORED_LAYERS,
    RESTORED_MODULES,
)
from knowshift.analysis.study import BASE, TESTS, Cell, Study, spread, table

BINS = 10  # of probability
POINTS = 100  # of a loss curve, at most


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


def tabulate_loss(study: Study, losses: pd.DataFrame) -> pa.Table:
    """Loss curves with at most `POINTS` points, mean and range over seeds, in the schema `LOSS_CURVES`.

    Args:
        losses: a table in the schema `TRAINING_LOSS`.
    """
    by_run = dict(iter(losses.groupby("run")[["step", "loss"]]))
    rows = []
    for cell in study.cells:
        curves = [by_run[run] for run in cell.runs if run in by_run]
        if not curves:
            continue
        width = int(np.ceil(max(curve["step"].max() for curve in curves) / POINTS))
        wide = pd.concat([curve.groupby((curve["step"] - 1) // width)["loss"].mean() for curve in curves], axis=1)
        middle = wide.index.to_numpy() * width + (width + 1) / 2
        columns = {"step": middle, "loss": wide.mean(1), "lowest": wide.min(1), "highest": wide.max(1)}
        points = pd.DataFrame(columns).to_dict("records")
        rows += [{**cell.columns, "seeds": len(curves)} | point for point in points]
    return table(rows, LOSS_CURVES)


def tabulate_calibration(study: Study) -> tuple[pa.Table, pa.Table]:
    """Probability of the right answer against the share answered, in the schemas `CALIBRATION` and `CALIBRATION_ERRORS`.

    Of every method and data kind the largest common size; restored by the share chosen on dev.
    """
    bins, errors = [], []
    for head, keys in _states(study):
        for panel in (study.panels[name] for name in TESTS if name in study.panels):
            columns = [panel.columns[key] for key in keys]
            probability = np.exp(panel.logprob[:, columns].astype(np.float64))  # (N, seeds)
            correct = panel.correct[:, columns]
            mine = head | {"set": panel.name}
            place = calibration_bins(probability, BINS)
            for bin_ in np.unique(place):
                here = place == bin_
                means = {"probability": probability[here].mean(), "accuracy": correct[here].mean()}
                bins.append(mine | {"bin": int(bin_), "questions": int(here.sum())} | means)
            each = [calibration_error(*pair, BINS) for pair in zip(probability.T, correct.T, strict=True)]
            errors.append(
                mine
                | {"seeds": len(keys), "questions": panel.questions, "error": np.mean(each), "spread": spread(each)}
                | {"probability": probability.mean(), "accuracy": correct.mean()}
            )
    return table(bins, CALIBRATION), table(errors, CALIBRATION_ERRORS)


def _states(study: Study) -> Iterator[tuple[dict, Sequence[Answerer]]]:
    yield {"state": "before", **Cell("pre-trained").columns}, [BASE]
    for method, kinds in study.kinds.items():
        for cell in (cell for data in kinds for cell in study.largest(method, data)):
            yield {"state": "after", **cell.columns}, cell.answerers
            if share := chosen_restoration(study, cell):
                yield {"state": "restored", **share.columns}, share.answerers
