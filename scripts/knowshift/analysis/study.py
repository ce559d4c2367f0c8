"""The study of one model: the conditions that were run, what was restored of them, and all answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from knowshift.analysis.answer_matrix import Answerer, Answers, Panel
from knowshift.analysis.contrasts import Arm
from knowshift.analysis.estimates import Estimate, bootstrap_means
from knowshift.analysis.task_scores import TaskScores
from knowshift.configuration.models import TUNED
from knowshift.randomness import derive_seed

HELD_OUT = ("test", "test_ood", "dev", "dev_ood")
TESTS = ("test", "test_ood")
BASE, INSTRUCT = Answerer("base"), Answerer("instruct")
FEW_SHOT, MOST_FREQUENT = Answerer("few-shot"), Answerer("most-frequent")


@dataclass(frozen=True)
class Condition:
    """A method, data kind and size with its runs, which differ in their seed alone.

    Attributes:
        method: full, lora or a variant; tuned for a model that was fine-tuned elsewhere.
        data: The data kind: level0 to level4, or mixed; the name of a model that was fine-tuned elsewhere.
        size: The number of training facts used; 0 where it is not known.
        asked: The size in the configuration: a number as text, or `all`; empty where nothing was trained here.
        runs: The names of the runs, one per seed.
        seeds: The seeds, in the order of the runs; 0 of a model that was fine-tuned elsewhere.
    """

    method: str
    data: str
    size: int
    asked: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def elsewhere(self) -> bool:
        """Whether it is a model that was fine-tuned elsewhere: a cell of its own, with one run."""
        return self.method == TUNED

    @property
    def columns(self) -> dict:
        """The columns that name the condition in a table."""
        sizes = {"size": None, "asked": None} if self.elsewhere else {"size": self.size, "asked": self.asked}
        return {"method": self.method, "data": self.data, **sizes}

    @property
    def answerers(self) -> list[Answerer]:
        """The fine-tuned models, one per run."""
        return [Answerer(run) for run in self.runs]

    def arm(self, weight: float) -> Arm:
        """The condition as an arm of a contrast."""
        return Arm(weight, self.data, dict(zip(self.seeds, self.answerers, strict=True)))


def reference_columns(method: str) -> dict:
    """The same columns for a model that was not fine-tuned here, such as `pre-trained`."""
    return {"method": method, "data": None, "size": None, "asked": None}


@dataclass(frozen=True)
class RestoredCondition:
    """A condition with a share of its parameters restored.

    Attributes:
        condition: The fine-tuned models.
        strategy: What is undone first, or how; a key of `STRATEGY_TRAITS`.
        region: The tensors that the share is taken of.
        percent: The share of the region's parameters that is restored, in percent.
        runs: Those runs of the condition that were restored so.
    """

    condition: Condition
    strategy: str
    region: str
    percent: float
    runs: tuple[str, ...]

    @property
    def columns(self) -> dict:
        """The columns that name the restored condition in a table."""
        named = {"strategy": self.strategy, "region": self.region, "percent": self.percent}
        return {**self.condition.columns, **named}

    @property
    def answerers(self) -> list[Answerer]:
        """The restored models, one per run."""
        return [Answerer(run, self.strategy, self.region, self.percent) for run in self.runs]

    @property
    def unrestored(self) -> list[Answerer]:
        """The fine-tuned models of the same runs, with nothing restored."""
        return [Answerer(run) for run in self.runs]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of the runs."""
        by_run = dict(zip(self.condition.runs, self.condition.seeds, strict=True))
        return tuple(by_run[run] for run in self.runs)


class Study:
    """What was run of one model, with all answers.

    Attributes:
        conditions: The conditions that were run, sorted by method, data kind and size.
        restorations: The restored conditions, in the order of the conditions.
        panels: Set name to the answers of all models to a set of held-out questions.
        answers: Set name to answerer to answers; it includes the training sets.
        levels: (F,) the mastery level of every fact of the mastery table.
        seed: The experiment's seed.
        tasks: The scores of all models on the tasks that they have to go on doing.
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        answers: Mapping[str, Mapping[Answerer, Answers]],
        levels: np.ndarray,
        seed: int,
        tasks: Sequence[TaskScores] = (),
    ) -> None:
        """Group runs into conditions, and put the answers to each set into a matrix.

        Args:
            cells: A table in the schema `CELLS`.
            answers: As in the attributes.
            levels: As in the attributes.
            seed: As in the attributes.
            tasks: As in the attributes.
        """
        self.answers, self.levels, self.seed, self.tasks = answers, levels, seed, tasks
        self.panels = {name: Panel(name, dict(answers[name]), levels, seed) for name in HELD_OUT if answers.get(name)}
        asked = {key for given in answers.values() for key in given}
        runs_asked = {key.run for key in asked}
        by_condition: dict[tuple, tuple[int, list[str], list[int]]] = {}
        for cell in cells.to_dict("records"):
            if cell["state"] == "run" and cell["run"] in runs_asked:
                here = cell["method"] != TUNED
                same = (cell["method"], cell["data"], cell["size"] if here else "")
                _, runs, seeds = by_condition.setdefault(same, (int(cell["facts"]) if here else 0, [], []))
                runs.append(cell["run"])
                seeds.append(int(cell["seed"]) if here else 0)
        self.conditions = [
            Condition(method, data, facts, size, tuple(runs), tuple(seeds))
            for (method, data, size), (facts, runs, seeds) in by_condition.items()
        ]
        self.conditions.sort(key=lambda condition: (condition.method, condition.data, condition.size))
        restored = {
            (key.run, (key.strategy, key.region, key.percent))
            for key in asked
            if key.strategy is not None and key.region is not None and key.percent is not None
        }
        self.restorations = [
            RestoredCondition(condition, *kind, tuple(run for run in condition.runs if Answerer(run, *kind) in asked))
            for condition in self.conditions
            for kind in sorted({kind for run, kind in restored if run in condition.runs})
        ]

    @cached_property
    def kinds(self) -> dict[str, list[str]]:
        """Method to the data kinds that it was run on, of what was fine-tuned here."""
        kinds: dict[str, list[str]] = {}
        for condition in self.conditions:
            if not condition.elsewhere and condition.data not in kinds.setdefault(condition.method, []):
                kinds[condition.method].append(condition.data)
        return kinds

    def keeps_tasks(self, restored: RestoredCondition) -> bool:
        """Whether a restored condition keeps every task within its tolerance, on the task's dev half."""
        return all(task.keeps(restored.answerers) for task in self.tasks)

    def sizes(self, method: str, data: str | None = None) -> list[int]:
        """The sizes, rising, that a data kind was run at, without `all`; without a kind, those that all kinds have."""
        kinds = [data] if data else self.kinds.get(method, [])
        found = [
            {one.size for one in self.conditions if (one.method, one.data) == (method, kind) and one.asked != "all"}
            for kind in kinds
        ]
        return sorted(set.intersection(*found)) if found else []

    def curves(self, method: str, fewest: int) -> tuple[list[str], list[int]]:
        """The data kinds that a method was run on at common sizes, as many sizes as `fewest`, and those sizes, rising.

        Kinds with more sizes come first; a kind that would leave fewer common sizes is left out. Without any such kind
        both are empty.
        """
        kinds = sorted(self.kinds.get(method, []), key=lambda kind: -len(self.sizes(method, kind)))
        chosen: list[str] = []
        common: set[int] = set()
        for kind in kinds:
            shared = set(self.sizes(method, kind)) & (common if chosen else set(self.sizes(method, kind)))
            if len(shared) >= fewest:
                chosen, common = [*chosen, kind], shared
        return sorted(chosen), sorted(common)

    def common_size(self, method: str) -> int | None:
        """The largest size that every data kind of a method was run at."""
        return max(self.sizes(method), default=None)

    def condition(self, method: str, data: str, size: int) -> Condition:
        """The condition of a size that the configuration gives as a number.

        Raises:
            StopIteration: It was not run.
        """
        return next(one for one in self.conditions if (one.method, one.data, one.asked) == (method, data, str(size)))

    def largest(self, method: str, data: str) -> list[Condition]:
        """The condition at the largest common size; where there is none, the largest of the data kind."""
        size = self.common_size(method)
        conditions = [one for one in self.conditions if (one.method, one.data) == (method, data)]
        common = [one for one in conditions if size is not None and one.asked == str(size)]
        return common or sorted(conditions, key=lambda one: one.size)[-1:]

    @cached_property
    def shown(self) -> list[Condition]:
        """The conditions that are shown fact by fact.

        They are those of every method and data kind at the largest common size, and the models tuned elsewhere.
        """
        here = [one for method, kinds in self.kinds.items() for kind in kinds for one in self.largest(method, kind)]
        return [*here, *(one for one in self.conditions if one.elsewhere)]

    def before(self, condition: Condition) -> Answerer:
        """The pre-trained model as a condition is compared with it, fact by fact.

        It is asked with the prompt that was trained on here. To a model that was fine-tuned elsewhere it is compared
        after answered examples where it was asked so, since it may not know the form of an answer.
        """
        return FEW_SHOT if condition.elsewhere and FEW_SHOT in self.panels["test"] else BASE

    @cached_property
    def main_method(self) -> str:
        """The method that claims are about: full fine-tuning, or the first method if full fine-tuning was not run."""
        return "full" if "full" in self.kinds else next(iter(self.kinds), "full")

    @cached_property
    def trained(self) -> dict[str, dict[Answerer, Estimate]]:
        """Run to answerer to the share of the run's own training set that it answers.

        The answerers are the pre-trained model, the run, and what was restored of the run.
        """
        given = self.answers.get("training_set", {})
        before = correct_before(self.answers, len(self.levels))
        runs: dict[str, dict[Answerer, Answers]] = {}
        for key, answers in given.items():
            runs.setdefault(key.run, {})[key] = answers
        return {run: self._shares(run, before, answered) for run, answered in runs.items()}

    def _shares(self, run: str, before: np.ndarray, answered: dict[Answerer, Answers]) -> dict[Answerer, Estimate]:
        """The shares of one training set, with one bootstrap for all answerers."""
        facts = next(iter(answered.values())).facts
        columns = {BASE: before[facts], **{key: answers.correct for key, answers in answered.items()}}
        values = np.stack(list(columns.values()), axis=1)
        replicates = bootstrap_means(values, np.zeros(len(facts), int), 1, self.rng("bootstrap", run))[:, 0]
        return {
            key: Estimate(float(values[:, column].mean()), replicates[:, column]) for column, key in enumerate(columns)
        }

    def rng(self, *purpose: str) -> np.random.Generator:
        """A random generator whose numbers depend on the experiment's seed and on the name of their purpose."""
        return np.random.default_rng(derive_seed(self.seed, *purpose))


def correct_before(answers: Mapping[str, Mapping[Answerer, Answers]], facts: int) -> np.ndarray:
    """(F,) whether the pre-trained model answers each training fact; False for facts that it was not asked."""
    before = np.zeros(facts, bool)
    if "train" in answers:
        base = answers["train"][BASE]
        before[base.facts] = base.correct
    return before
