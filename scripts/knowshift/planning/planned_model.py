"""The part of an experiment that one model takes: the cells that are trained, restored and exported."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from knowshift.configuration.finetuning import GRID_KEYS
from knowshift.finetuning.grid import AnyCell, Cell, TunedCell, cell_of, cells, cells_read, is_restored, tuned_cells
from knowshift.finetuning.orders import KNOWN
from knowshift.finetuning.stops import stops_by_training, trained_cell
from knowshift.planning.fact_counts import FactCounts, TopicSize


@dataclass(frozen=True)
class TaskSize:
    """The examples of a task.

    Attributes:
        examples: their number.
        read: tokens of all prompts.
        written: tokens that are generated at most.
    """

    examples: float
    read: float
    written: float


@dataclass(frozen=True)
class ModelSize:
    """What is known of a model's size, and of what it knows, before the experiment runs.

    Attributes:
        parameters: number of parameters.
        file_bytes: bytes of its weight files.
        levels: facts per mastery level for each set of facts (drawable, dev, test, dev_ood, test_ood) known so far.
        vocabulary: number of tokens in its vocabulary; 0 if unknown.
        tasks: what it is asked of each task.
    """

    parameters: float
    file_bytes: float
    levels: Mapping[str, Sequence[float]]
    vocabulary: int = 0
    tasks: Sequence[TaskSize] = ()


@dataclass(frozen=True)
class RestoredModel:
    """A fine-tuned model of which one share of one region is restored, and which answers in one number format."""

    cell: AnyCell
    strategy: str
    region: str
    percent: float
    dtype: str


class Sweep(NamedTuple):
    """The restored models that one process makes with one strategy.

    Attributes:
        job: what its process has in common: the cell, the region and the number format.
        strategy: the strategy.
        shares: how many shares are undone with it.
    """

    job: tuple[AnyCell, str, str]
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
        """All cells of the grid that the configuration asks for."""
        grid = self.experiment.finetuning
        return [] if grid is None else cells(**{key: getattr(grid, key) for key in GRID_KEYS})

    @cached_property
    def feasible(self) -> list[Cell]:
        """The feasible cells of the grid: those with enough facts, as far as that is known."""
        return [cell for cell in self.all_cells if self.facts.of_cell(cell) > 0]

    @cached_property
    def elsewhere(self) -> list[TunedCell]:
        """The cells that were fine-tuned elsewhere."""
        return tuned_cells(self.experiment.models[self.name].tuned)

    @cached_property
    def runs(self) -> list[AnyCell]:
        """The cells that are asked: the feasible ones of the grid, and those that were fine-tuned elsewhere."""
        return [*self.feasible, *self.elsewhere]

    @cached_property
    def compared(self) -> list[AnyCell]:
        """The runs whose divergence is measured; it is not where a chat template asks."""
        tuned = self.experiment.models[self.name].tuned
        return [*self.feasible, *(cell for cell in self.elsewhere if tuned[cell.name].prompt == "study")]

    @cached_property
    def exports(self) -> list[Any]:
        """The entries under `exports` of the configuration that name this model."""
        return [entry for entry in self.experiment.exports if entry.model == self.name]

    @cached_property
    def with_delta(self) -> list[Cell]:
        """The cells of the grid that have a delta: all runs of it, and cells that only an export asks for."""
        read = [cell for entry in self.exports for cell in self._cells_read(entry.strategy, cell_of(entry.run))]
        exported = [cell for cell in read if isinstance(cell, Cell)]
        return list(dict.fromkeys([*self.feasible, *exported]))

    @cached_property
    def trained(self) -> list[Cell]:
        """The cells that are trained: those with a delta; in place of one that stops early, the training it stops."""
        return list(dict.fromkeys(trained_cell(cell, self.experiment.finetuning) for cell in self.with_delta))

    @cached_property
    def stops(self) -> dict[Cell, list[float]]:
        """The shares of their steps after which trainings keep a model as well, by trained cell."""
        return stops_by_training(self.with_delta, self.experiment.finetuning)

    @cached_property
    def orders(self) -> set[tuple[str, int]]:
        """The kinds and seeds of the orders that are drawn: of training facts, and of known facts to train along."""
        grid = self.experiment.finetuning
        replaying = {cell for cell in self.trained if grid and grid.training(cell.method)[1].replay}
        return {(cell.data, cell.seed) for cell in self.trained} | {(KNOWN, cell.seed) for cell in replaying}

    def _cells_read(self, strategy: str, cell: AnyCell) -> list[AnyCell]:
        """The cells whose deltas a restoration of a cell reads."""
        return cells_read(strategy, cell, self.experiment.seeds)

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
        """What the processes that evaluate restored models undo, by strategy."""
        counts = Counter(((other.cell, other.region, other.dtype), other.strategy) for other in self.restored)
        return [Sweep(job, strategy, shares) for (job, strategy), shares in counts.items()]

    @property
    def restored_with_tasks(self) -> list[RestoredModel]:
        """The restored models that are asked tasks: those that answer in the number format of the evaluation."""
        own = self.experiment.answering_dtype(self.name)
        return [model for model in self.restored if model.dtype == own]

    @property
    def sweeps(self) -> int:
        """How many processes evaluate restored models: one for all that is undone in a cell, region and format."""
        return len({sweep.job for sweep in self.sweeps_made})

    @cached_property
    def kept_deltas(self) -> list[AnyCell]:
        """The cells whose delta stays on disk."""
        every: list[AnyCell] = [*self.with_delta, *self.elsewhere]
        if not self.passing_deltas:
            return every
        read = [(model.strategy, model.cell) for model in self.restored]
        read += [(entry.strategy, cell_of(entry.run)) for entry in self.exports]
        needed = {other for strategy, cell in read for other in self._cells_read(strategy, cell)}
        return [cell for cell in every if cell in needed]

    @property
    def passing_deltas(self) -> bool:
        """Whether deltas that nothing restores or exports are deleted once they are read."""
        grid = self.experiment.finetuning
        return grid is not None and grid.keep_deltas == "restored"
