"""One model's study as statistics see it: its cells, what was restored of them, and the panels of its questions."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from knowshift.analysis.answer_matrix import Answerer, Answers, Panel
from knowshift.analysis.estimates import Estimate, bootstrap_means
from knowshift.randomness import derive_seed

HELD_OUT = ("test", "test_ood", "dev", "dev_ood")
TESTS = ("test", "test_ood")
BASE, INSTRUCT = Answerer("base"), Answerer("instruct")


@dataclass(frozen=True)
class Cell:
    """Runs that differ by their seed alone; None throughout: a model that was not fine-tuned here."""

    method: str
    data: str | None = None
    size: int | None = None
    asked: str | None = None
    runs: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def columns(self) -> dict:
        """The columns that name a cell in a table."""
        return {"method": self.method, "data": self.data, "size": self.size, "asked": self.asked}

    @property
    def answerers(self) -> list[Answerer]:
        return [Answerer(run) for run in self.runs]


@dataclass(frozen=True)
class Restoration:
    """A share of a cell's updates undone, in those of its runs where it was done."""

    cell: Cell
    strategy: str
    region: str
    percent: float
    runs: tuple[str, ...]

    @property
    def columns(self) -> dict:
        named = {"strategy": self.strategy, "region": self.region, "percent": self.percent}
        return {**self.cell.columns, **named}

    @property
    def answerers(self) -> list[Answerer]:
        return [Answerer(run, self.strategy, self.region, self.percent) for run in self.runs]

    @property
    def unrestored(self) -> list[Answerer]:
        return [Answerer(run) for run in self.runs]


class Study:
    """What was run of one model.

    Attributes:
        cells: that were run, by method, data kind and size.
        restorations: of them.
        panels: by set of held-out questions.
        answers: by set and model, training sets among them.
        levels: of every fact of the mastery table.
        seed: of the experiment.
    """

    def __init__(
        self, cells: pd.DataFrame, answers: Mapping[str, Mapping[Answerer, Answers]], levels: np.ndarray, seed: int
    ) -> None:
        """Args: cells is a table in the schema `CELLS`."""
        self.answers, self.levels, self.seed = answers, levels, seed
        self.panels = {name: Panel(name, dict(answers[name]), levels, seed) for name in HELD_OUT if answers.get(name)}
        asked = {key for given in answers.values() for key in given}
        there = cells[(cells["state"] == "run") & cells["run"].isin([key.run for key in asked])]
        self.cells = [
            Cell(method, data, int(group["facts"].iloc[0]), size, tuple(group["run"]), tuple(group["seed"]))
            for (method, data, size), group in there.groupby(["method", "data", "size"], sort=False)
        ]
        self.cells.sort(key=lambda cell: (cell.method, cell.data, cell.size))
        self.restorations = [
            Restoration(cell, *kind, tuple(run for run in cell.runs if Answerer(run, *kind) in asked))
            for cell in self.cells
            for kind in sorted({key[1:] for key in asked if key.run in cell.runs and key.percent is not None})
        ]

    @property
    def has_instruct(self) -> bool:
        return INSTRUCT in self.panels["test"]

    @cached_property
    def kinds(self) -> dict[str, list[str]]:
        """The data kinds that each method was run on."""
        kinds: dict[str, list[str]] = {}
        for cell in self.cells:
            if cell.data not in kinds.setdefault(cell.method, []):
                kinds[cell.method].append(cell.data)
        return kinds

    def sizes(self, method: str, data: str | None = None) -> list[int]:
        """The sizes, asked for as numbers, that a data kind was run at; without one, those of every kind of the method."""
        kinds = [data] if data else self.kinds.get(method, [])
        found = [
            {cell.size for cell in self.cells if (cell.method, cell.data) == (method, kind) and cell.asked != "all"}
            for kind in kinds
        ]
        return sorted(set.intersection(*found)) if found else []

    def common_size(self, method: str) -> int | None:
        """The largest size that every data kind of a method was run at."""
        return max(self.sizes(method), default=None)

    def cell(self, method: str, data: str, size: int) -> Cell | None:
        """The cell of a size asked for as a number."""
        return next((c for c in self.cells if (c.method, c.data, c.asked) == (method, data, str(size))), None)

    def largest(self, method: str, data: str) -> list[Cell]:
        """The cell at the largest common size, or the largest of the data kind where there is none."""
        size = self.common_size(method)
        cells = [c for c in self.cells if (c.method, c.data) == (method, data)]
        at = [c for c in cells if size is not None and c.asked == str(size)]
        return at or sorted(cells, key=lambda c: c.size)[-1:]

    @cached_property
    def main_method(self) -> str | None:
        """The method that claims are about: full fine-tuning, or the first one."""
        return "full" if "full" in self.kinds else next(iter(self.kinds), None)

    @cached_property
    def trained(self) -> dict[str, dict[Answerer, Estimate]]:
        """Of every run, the share of its own training set that it, the pre-trained and its restored models answer."""
        given = self.answers.get("training_set", {})
        base = self.answers["train"][BASE] if "train" in self.answers else None
        before = np.zeros(len(self.levels), bool)
        if base is not None:
            before[base.facts] = base.correct
        runs: dict[str, dict[Answerer, Answers]] = {}
        for key, answers in given.items():
            runs.setdefault(key.run, {})[key] = answers
        return {run: self._shares(run, before, answered) for run, answered in runs.items()}

    def _shares(self, run: str, before: np.ndarray, answered: dict[Answerer, Answers]) -> dict[Answerer, Estimate]:
        facts = next(iter(answered.values())).facts
        columns = {BASE: before[facts], **{key: answers.correct for key, answers in answered.items()}}
        values = np.stack(list(columns.values()), axis=1)
        replicates = bootstrap_means(values, np.zeros(len(facts), int), 1, self.rng("bootstrap", run))[:, 0]
        return {
            key: Estimate(float(values[:, place].mean()), replicates[:, place]) for place, key in enumerate(columns)
        }

    def rng(self, *purpose: str) -> np.random.Generator:
        """Random numbers by the name of what they are for."""
        return np.random.default_rng(derive_seed(self.seed, *purpose))
