"""How accuracy on well-known facts moves with divergence from the pre-trained model."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.columns import estimate_columns, interval_columns, known, table
from knowshift.analysis.contrasts import Arm, Contrast, contrast
from knowshift.analysis.estimates import Estimate, bootstrap_means, mean_of, spearman_estimate
from knowshift.analysis.schemas import CORRELATIONS, SHIFTS
from knowshift.analysis.study import BASE, TESTS, Condition, Study
from knowshift.mastery.schemas import LEVELS

FEWEST_POINTS = 5  # conditions that a correlation needs


class Shift:
    """Divergence and accuracy of every run on the level-4 facts of a set, resampled together.

    Attributes:
        runs: The runs whose divergence was measured.
        facts: The number of level-4 facts that were measured in all of these runs.
        values: (N, R) the divergence in nats of each of these facts and runs.
        right: (M, R) whether each run answers each level-4 fact of the set, measured or not.
    """

    def __init__(self, study: Study, panel: Panel, divergences: Mapping[str, pd.Series]) -> None:
        """Pick the level-4 facts.

        Args:
            study: The study.
            panel: The answers to the set.
            divergences: Run to the divergence of its facts in nats, by row number in the mastery table.
        """
        rows = panel.strata == LEVELS[-1]
        facts = panel.facts[rows]
        self.runs = [run for run in divergences if Answerer(run) in panel]
        kl = (
            np.array([divergences[run].reindex(facts).to_numpy(float) for run in self.runs])
            .reshape(len(self.runs), len(facts))
            .T
        )
        measured = np.logical_not(np.isnan(kl).any(axis=1)) if self.runs else np.zeros(len(facts), bool)
        self.facts = int(measured.sum())
        self.values = kl[measured]
        self.right = panel.correct[np.ix_(rows, [panel.columns[Answerer(run)] for run in self.runs])]
        self._measured, self._rng = measured, study.rng("bootstrap", "level 4", panel.name)

    @cached_property
    def _replicates(self) -> np.ndarray:
        """(B, 1 + 2 R) means over resampled facts: the share measured, then KL where measured, then right answers."""
        kl = np.zeros(self.right.shape)
        kl[self._measured] = self.values
        values = np.column_stack([self._measured, kl, self.right])
        return bootstrap_means(values, np.zeros(len(values), int), 1, self._rng)[:, 0]

    @cached_property
    def kl(self) -> dict[str, Estimate]:
        """Run to its mean divergence in nats, with an interval over facts."""
        with np.errstate(invalid="ignore", divide="ignore"):
            replicates = self._replicates[:, 1 : 1 + len(self.runs)] / self._replicates[:, :1]
        means = self.values.mean(0) if self.facts else np.full(len(self.runs), np.nan)
        return {run: Estimate(float(means[at]), replicates[:, at]) for at, run in enumerate(self.runs)}

    @cached_property
    def accuracy(self) -> dict[str, Estimate]:
        """Run to its accuracy on level 4, with an interval over facts."""
        replicates = self._replicates[:, 1 + len(self.runs) :]
        means = self.right.mean(0) if len(self.right) else np.full(len(self.runs), np.nan)
        return {run: Estimate(float(means[at]), replicates[:, at]) for at, run in enumerate(self.runs)}

    def means(self, condition: Condition) -> tuple[float, float]:
        """The divergence in nats and the accuracy on level 4 of a condition, mean over facts and seeds."""
        columns = [self.runs.index(run) for run in condition.runs]
        return float(self.values[:, columns].mean()), float(self.right[:, columns].mean())

    def compare(self, arms: Sequence[Arm]) -> Contrast:
        """A contrast of mean divergences, with its variance over draws and facts.

        Args:
            arms: What is compared; their columns are answerers.
        """
        columns = {Answerer(run): column for column, run in enumerate(self.runs)}
        return contrast(self.values, columns, np.zeros(self.facts, int), 1, arms)

    def mean_kl(self, condition: Condition) -> Estimate:
        """The divergence of a condition in nats, mean over its seeds."""
        return mean_of([self.kl[run] for run in condition.runs])

    def mean_accuracy(self, condition: Condition) -> Estimate:
        """The accuracy of a condition, mean over its seeds."""
        return mean_of([self.accuracy[run] for run in condition.runs])


def measure_shifts(study: Study, divergences: Mapping[str, pd.Series]) -> dict[str, Shift]:
    """Set name to shift, for the test sets.

    Args:
        study: The study.
        divergences: Run to the divergence of its facts in nats, by row number in the mastery table.
    """
    return {name: Shift(study, study.panels[name], divergences) for name in TESTS if name in study.panels}


def tabulate_shifts(study: Study, shifts: Mapping[str, Shift]) -> tuple[pa.Table, pa.Table]:
    """Divergence beside accuracy on level 4, and their correlations, in the schemas `SHIFTS` and `CORRELATIONS`."""
    rows, correlations = [], []
    for name, shift in shifts.items():
        conditions = [condition for condition in study.conditions if all(run in shift.kl for run in condition.runs)]
        before = known(study.panels[name].on_level([BASE], LEVELS[-1]).value)
        for condition in conditions:
            head = {
                **condition.columns,
                "set": name,
                "seeds": len(condition.runs),
                "facts": shift.facts,
                "before": before,
            }
            accuracy = interval_columns("accuracy", shift.mean_accuracy(condition))
            rows.append(head | estimate_columns("kl", [shift.kl[run] for run in condition.runs]) | accuracy)
        for method, kinds in study.kinds.items():
            for data in [*kinds, None]:
                some = [
                    condition
                    for condition in conditions
                    if condition.method == method and data in (condition.data, None)
                ]
                head = {"method": method, "data": data, "set": name, "points": len(some)}
                found = correlation(shift, some)
                ends = {"low": known(found.low), "high": known(found.high)} if found else {}
                correlations.append(head | {"spearman": known(found.value) if found else None} | ends)
    return table(rows, SHIFTS), table(correlations, CORRELATIONS)


def correlation(shift: Shift, conditions: list[Condition]) -> Estimate | None:
    """Rank correlation of divergence and level-4 accuracy over conditions; None if too few were measured."""
    if len(conditions) < FEWEST_POINTS or not shift.facts:
        return None
    kl = np.array([shift.mean_kl(condition).value for condition in conditions])
    return spearman_estimate(kl, np.array([shift.mean_accuracy(condition).value for condition in conditions]))
