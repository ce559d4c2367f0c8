"""The scores of all models on the examples of tasks, and whether a restored model still does them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from knowshift.analysis.answer_matrix import Answerer
from knowshift.analysis.estimates import Estimate, bootstrap_means, mean_of
from knowshift.configuration.tasks import Metric
from knowshift.evaluation.schemas import TASK_ANSWERS
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_table

HALVES = ("dev", "test")
_EQUAL = 1e-9  # differences of scores below this are rounding


@dataclass(frozen=True)
class Half:
    """The scores of many models on one half of a task's examples, with a bootstrap that all of them share.

    Attributes:
        columns: Answerer to the index of its column.
        scores: (N, C) the score of each model on each example.
        seed: Of the resamples.
    """

    columns: Mapping[Answerer, int]
    scores: np.ndarray
    seed: int

    @property
    def examples(self) -> int:
        """The number of examples."""
        return len(self.scores)

    @cached_property
    def _replicates(self) -> np.ndarray:
        """(B, C) the mean scores on B resamples of the examples."""
        rng = np.random.default_rng(self.seed)
        return bootstrap_means(self.scores, np.zeros(self.examples, int), 1, rng)[:, 0]

    def score(self, keys: Sequence[Answerer]) -> Estimate:
        """The mean score, over models too."""
        columns = [self.columns[key] for key in keys]
        return mean_of([Estimate(float(self.scores[:, one].mean()), self._replicates[:, one]) for one in columns])

    def change(self, keys: Sequence[Answerer]) -> Estimate:
        """The mean score of restored models, less that of the same runs with nothing restored."""
        return self.score(keys) - self.score([Answerer(key.run) for key in keys])


@dataclass(frozen=True)
class TaskScores:
    """One task.

    Attributes:
        name: Its name.
        metric: How its examples are scored.
        tolerance: How far the score of a recommended model may fall on the dev half.
        halves: The scores by half, dev and test.
    """

    name: str
    metric: Metric
    tolerance: float
    halves: Mapping[str, Half]

    def keeps(self, keys: Sequence[Answerer]) -> bool:
        """Whether restored models, mean over seeds, keep the task within the tolerance on its dev half."""
        return self.halves["dev"].change(keys).value >= -self.tolerance - _EQUAL


def read_task_scores(path: Path, tasks: Mapping[str, Mapping[str, Any]], seed: int) -> list[TaskScores]:
    """Read the scores of all models on all tasks, in the order of `tasks`.

    Args:
        path: A table in the schema `TASK_ANSWERS`.
        tasks: Task to its `metric` and `tolerance`.
        seed: The experiment's seed.

    Raises:
        KnowshiftError: Models were asked different examples of a task.
    """
    columns = ["run", "strategy", "region", "percent", "task", "example", "half", "score"]
    scores: dict[tuple[str, str], dict[Answerer, dict[int, float]]] = {}
    for row in read_table(path, TASK_ANSWERS, columns).to_pylist():
        key = Answerer(row["run"], row["strategy"], row["region"], row["percent"])
        of_half = scores.setdefault((row["task"], row["half"]), {})
        of_half.setdefault(key, {})[row["example"]] = row["score"]
    found = []
    for name, about in tasks.items():
        halves = {}
        for half in HALVES:
            given = scores.get((name, half), {})
            examples = next(iter(given.values()), {}).keys()
            for key, own in given.items():
                if own.keys() != examples:
                    raise KnowshiftError(
                        f"task {name}: {key.run} was asked other examples than the first model; rebuild it with:"
                        " snakemake --forcerun evaluate_tasks evaluate_base_tasks evaluate_restored"
                    )
            matrix = np.array([[own[example] for own in given.values()] for example in sorted(examples)], float)
            index = {key: column for column, key in enumerate(given)}
            halves[half] = Half(index, matrix, derive_seed(seed, "bootstrap", "task", name, half))
        found.append(TaskScores(name, about["metric"], about["tolerance"], halves))
    return found
