"""The part of an experiment that one model takes: the cells that are trained, restored and exported."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from knowshift.configuration.finetuning import GRID_KEYS
from knowshift.finetuning.grid import Cell, cells, cells_read, is_restored
from knowshift.planning.fact_counts import FactCounts, TopicSize


@dataclass(frozen=True)
class ModelSize:
    """What is known of a model's size, and of what it knows, before the experiment runs.

    Attributes:
        parameters: number of parameters.
        file_bytes: bytes of its weight files.
        levels: facts per mastery level for each set of facts (drawable, dev, test, dev_ood, test_ood) known so far.
        vocabulary: number of tokens in its vocabulary; 0 if unknown.
    """

    parameters: float
    file_bytes: float
    levels: Mapping[str, Sequence[float]]
    vocabulary: int = 0


@dataclass(frozen=True)
class RestoredModel:
    """A fine-tuned model of which one share of one region is restored, and which answers in one number format."""

    cell: Cell
    strategy: str
    region: str
    percent: float
    dtype: str


class Sweep(NamedTuple):
    """A process that undoes several shares of a fine-tuned model's update in one way, and asks each restored model."""

    cell: Cell
    strategy: str
    shares: int


class PlannedModel:
    """One model of an experiment, with the cells of its grid.

    Args:
        experiment: the checked configuration.
        name: the model's name in it.
        size: what is known of the model.
        topics: size of every topic by name.
    """

    def __init__(self, experiment: Any, name: str, size: ModelSize, topics: Mapping[str, TopicSize]) -> None:
        self.experiment, self.name, self.size = experiment, name, size
        self.facts = FactCounts(topics, size.levels)

    @cached_property
    def all_cells(self) -> list[Cell]:
        """All cells that the configuration asks for."""
        grid = self.experiment.finetuning
        return cells(**{key: getattr(grid, key) for key in GRID_KEYS})

    @cached_property
    def runs(self) -> list[Cell]:
        """The feasible cells: those with enough facts, as far as that is known."""
        return [cell for cell in self.all_cells if self.facts.of_cell(cell) > 0]

    @cached_property
    def exports(self) -> list[Any]:
        """The entries under `exports` of the configuration that name this model."""
        return [entry for entry in self.experiment.exports if entry.model == self.name]

    @cached_property
    def trained(self) -> list[Cell]:
        """The cells that are trained: all runs, and cells that only an export asks for."""
        seeds = self.experiment.finetuning.seeds
        exported = [cell for entry in self.exports for cell in cells_read(entry.strategy, Cell.parse(entry.run), seeds)]
        return list(dict.fromkeys([*self.runs, *exported]))

    @cached_property
    def restored(self) -> list[RestoredModel]:
        """The restored models; one that several entries under `restoration` ask for counts once."""
        own = self.experiment.answering_dtype(self.name)
        every = (
            RestoredModel(cell, entry.strategy, entry.region, percent, dtype)
            for cell in self.runs
            for entry in self.experiment.restoration
            if is_restored(entry, self.name, cell)
            for dtype in dict.fromkeys([own, *entry.more_dtypes])
            for percent in (entry.percents if dtype == own else sorted({0, *entry.percents}))
        )
        return list(dict.fromkeys(every))

    @cached_property
    def sweeps_made(self) -> list[Sweep]:
        """The processes that evaluate restored models: one for all shares of a cell, strategy, region and format."""
        counts = Counter((other.cell, other.strategy, other.region, other.dtype) for other in self.restored)
        return [Sweep(cell, strategy, shares) for (cell, strategy, _, _), shares in counts.items()]

    @property
    def sweeps(self) -> int:
        """How many processes evaluate restored models."""
        return len(self.sweeps_made)

    @cached_property
    def kept_deltas(self) -> list[Cell]:
        """The trained cells whose delta stays on disk."""
        if self.experiment.finetuning.keep_deltas == "all":
            return self.trained
        read = [(model.strategy, model.cell) for model in self.restored]
        read += [(entry.strategy, Cell.parse(entry.run)) for entry in self.exports]
        seeds = self.experiment.finetuning.seeds
        needed = {other for strategy, cell in read for other in cells_read(strategy, cell, seeds)}
        return [cell for cell in self.trained if cell in needed]
