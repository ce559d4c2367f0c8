"""The study's tables for one model, from the artefacts of its cells; all grading of outputs happens here."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from knowshift.analysis.schemas import ACCURACY, ACCURACY_BY_LEVEL, CONCENTRATION, DIVERGENCE_MEANS, TRAINING_ACCURACY
from knowshift.mastery.schemas import LEVELS
from knowshift.restoration.concentration import concentration


def by_level(graded: Sequence[dict]) -> list[dict]:
    """Questions, right answers and accuracy per set and level; every level is listed, empty ones with null."""
    asked: Counter[tuple[str, int]] = Counter()
    right: Counter[tuple[str, int]] = Counter()
    for row in graded:
        asked[row["set"], row["level"]] += 1
        right[row["set"], row["level"]] += row["correct"]
    return [
        {
            "set": name,
            "level": level,
            "questions": asked[name, level],
            "correct": right[name, level],
            "accuracy": right[name, level] / asked[name, level] if asked[name, level] else None,
        }
        for name in sorted({name for name, _ in asked})
        for level in LEVELS
    ]


def overall(levels: Sequence[dict]) -> list[dict]:
    """The headline accuracy per set: the plain mean of the five level accuracies, null if a level has no questions."""
    rows = []
    for name in dict.fromkeys(row["set"] for row in levels):
        mine = [row for row in levels if row["set"] == name]
        accuracies = [row["accuracy"] for row in mine]
        questions, correct = sum(row["questions"] for row in mine), sum(row["correct"] for row in mine)
        rows.append(
            {
                "set": name,
                "questions": questions,
                "correct": correct,
                "share_correct": correct / questions,
                "accuracy": None if None in accuracies else sum(accuracies) / len(accuracies),
            }
        )
    return rows


def _table(rows: Sequence[dict], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)


class Accuracies:
    """Accuracy of one run after another, so that no two need be in memory at once.

    Args:
        base: the graded outcomes of the pre-trained model.
    """

    def __init__(self, base: Sequence[dict]) -> None:
        self._base = {row["fact_id"]: row["correct"] for row in base}
        self._levels: list[dict] = []
        self._totals: list[dict] = []
        self._training: list[dict] = []

    def add(self, run: str, graded: Sequence[dict]) -> None:
        """Count the graded outcomes of a run."""
        mine = by_level(graded)
        self._levels += [{"run": run, **row} for row in mine]
        self._totals += [{"run": run, **row} for row in overall(mine)]
        trained = [row for row in graded if row["set"] == "training_set"]
        if trained:
            before = sum(self._base[row["fact_id"]] for row in trained) / len(trained)
            after = sum(row["correct"] for row in trained) / len(trained)
            self._training.append({"run": run, "questions": len(trained), "before": before, "after": after})

    def tables(self) -> tuple[pa.Table, pa.Table, pa.Table]:
        """In the schemas `ACCURACY`, `ACCURACY_BY_LEVEL` and `TRAINING_ACCURACY`."""
        return (
            _table(self._totals, ACCURACY),
            _table(self._levels, ACCURACY_BY_LEVEL),
            _table(self._training, TRAINING_ACCURACY),
        )


def tabulate_divergence(divergences: Mapping[str, pa.Table], levels: pa.Table) -> pa.Table:
    """Mean divergence per run and set, beside the accuracy on level-4 facts; in the schema `DIVERGENCE_MEANS`."""
    known = {(row["run"], row["set"]): row["accuracy"] for row in levels.to_pylist() if row["level"] == 4}
    rows = []
    for run, table in divergences.items():
        for name in ("test", "test_ood"):
            values = [row["kl"] for row in table.to_pylist() if row["set"] == name]
            kl = float(np.mean(values)) if values else None
            accuracy = known.get((run, name))
            rows.append({"run": run, "set": name, "facts": len(values), "kl": kl, "accuracy_level4": accuracy})
    return _table(rows, DIVERGENCE_MEANS)


def tabulate_concentration(
    updates: Mapping[tuple[str, str], tuple[pa.Table, pa.Table]], percents: Sequence[float]
) -> pa.Table:
    """How much of the total relative change the most changed parameters hold; in the schema `CONCENTRATION`.

    Args:
        updates: (run, region) to its histogram and its statistics per tensor.
        percents: the shares of parameters to report.
    """
    rows = []
    for (run, region), (histogram, tensors) in updates.items():
        count, total, zeros, zero_total = (
            histogram[name].to_numpy() for name in ("count", "sum", "zero_count", "zero_sum")
        )
        for percent in percents:
            rows.append(
                {
                    "run": run,
                    "region": region,
                    "percent": percent,
                    "share": concentration(count, total, percent),
                    "share_without_zeros": concentration(count - zeros, total - zero_total, percent),
                    "parameters": int(count.sum()),
                    "zero_before": int(zeros.sum()),
                    "unchanged": sum(tensors["unchanged"].to_pylist()),
                }
            )
    return _table(rows, CONCENTRATION)


def restored_rows(
    run: str, strategy: str, region: str, sweep: Mapping[float, Sequence[dict]], tuned: Sequence[dict]
) -> list[dict]:
    """Accuracy after restoration, with the fine-tuned model as 0 %; rows of the schema `RESTORED`.

    Args:
        sweep: percent to graded outcomes.
        tuned: the graded outcomes of the fine-tuned model.
    """
    asked = {(row["fact_id"], row["set"]) for value in sweep.values() for row in value}
    same = [row for row in tuned if (row["fact_id"], row["set"]) in asked]
    start = {row["set"]: row["accuracy"] for row in overall(by_level(same))}
    rows = []
    for percent, outcome in sorted({0.0: same, **sweep}.items()):
        for row in overall(by_level(outcome)):
            before = start.get(row["set"])
            gain = None if row["accuracy"] is None or before is None else row["accuracy"] - before
            head = {"run": run, "strategy": strategy, "region": region, "percent": percent}
            rows.append({**head, **row, "gain": gain})
    return rows


def restored_by_module(selection: pa.Table) -> list[dict]:
    """Sums of a selection over the tensors of each layer and module."""
    summed = ("parameters", "restored", "restored_unchanged", "restored_sum", "sum")
    totals: dict[tuple, dict] = {}
    for row in selection.to_pylist():
        key = (row["layer"], row["module"])
        total = totals.setdefault(key, {"layer": key[0], "module": key[1], **dict.fromkeys(summed, 0)})
        for name in summed:
            total[name] += row[name]
    return list(totals.values())
