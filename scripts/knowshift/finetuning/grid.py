"""The cells of an experiment, one for each fine-tuned model: those of its grid, and those fine-tuned elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.configuration.models import TUNED
from knowshift.configuration.restoration import GRID_CHOICES, Restoration
from knowshift.finetuning.orders import data_levels
from knowshift.finetuning.schemas import CELLS


@dataclass(frozen=True)
class Cell:
    """One fine-tuned model of the grid: a method, a kind of data, a training set size and a seed."""

    method: str
    data: str
    size: int | str
    seed: int

    @property
    def run(self) -> str:
        """The name of the cell's run, which its paths contain: `full-level2-240-s1`."""
        return f"{self.method}-{self.data}-{self.size}-s{self.seed}"

    @classmethod
    def parse(cls, run: str) -> "Cell":
        """Return the cell of a run's name."""
        method, data, size, seed = run.split("-")
        return cls(method, data, size if size == "all" else int(size), int(seed.removeprefix("s")))


@dataclass(frozen=True)
class TunedCell:
    """One model that was fine-tuned elsewhere; how, on what and with which seed is not known here."""

    name: str

    @property
    def run(self) -> str:
        """The name of the cell's run, which its paths contain: `tuned-support-bot`."""
        return f"{TUNED}-{self.name}"


AnyCell = Cell | TunedCell


def cell_of(run: str) -> AnyCell:
    """Return the cell of a run's name. No method of the grid is called `tuned`, so names tell the kinds apart."""
    kind, _, name = run.partition("-")
    return TunedCell(name) if kind == TUNED else Cell.parse(run)


def tuned_cells(names: Iterable[str]) -> list[TunedCell]:
    """Return the cells of models that were fine-tuned elsewhere, in the order of their names in the configuration."""
    return [TunedCell(name) for name in names]


def cells(
    methods: Sequence[str],
    data: Sequence[str],
    sizes: Sequence[int | str],
    seeds: Sequence[int],
    method_data: Mapping[str, Sequence[str]] | None = None,
    data_sizes: Mapping[str, Sequence[int | str]] | None = None,
) -> list[Cell]:
    """Return all cells of a grid. The size `all` takes every fact, so it is run with the first seed only.

    Args:
        methods: names of methods.
        data: kinds of data.
        sizes: training set sizes in facts, or `all`.
        seeds: seeds of the training sets.
        method_data: kinds of data that a method is restricted to, by method.
        data_sizes: sizes that a kind of data is restricted to, by kind of data.
    """
    return [
        Cell(method, kind, size, seed)
        for method in methods
        for kind in (method_data or {}).get(method, data)
        for size in (data_sizes or {}).get(kind, sizes)
        for seed in (seeds[:1] if size == "all" else seeds)
    ]


def available_facts(levels: pa.Table, data: str) -> int:
    """Return how many facts training sets of a kind of data can draw from.

    Args:
        levels: counts of facts, in the schema `LEVEL_COUNTS`.
        data: "level0" … "level4" or "mixed".
    """
    wanted = data_levels(data)
    columns = (levels[name].to_pylist() for name in ("level", "drawable"))
    return sum(count for level, count in zip(*columns, strict=True) if wanted is None or level in wanted)


def feasible(planned: Sequence[Cell], levels: pa.Table) -> list[Cell]:
    """Return the planned cells that have enough facts."""
    facts = {data: available_facts(levels, data) for data in {cell.data for cell in planned}}
    return [cell for cell in planned if facts[cell.data] >= (cell.size if isinstance(cell.size, int) else 1)]


def is_restored(entry: Restoration, model: str, cell: AnyCell) -> bool:
    """Tell whether an entry under `restoration` applies to a cell of a model.

    A list that is null takes all. But an entry that chooses among the cells of one kind, those of the grid or those
    fine-tuned elsewhere, and says nothing of the other kind, applies to the one kind alone. A strategy that compares
    the models of several seeds takes no cell that has one seed only.
    """
    if model not in (entry.models or [model]):
        return False
    of_grid = any(getattr(entry, key) for key in GRID_CHOICES)
    if isinstance(cell, TunedCell):
        return entry.takes_elsewhere and (cell.name in entry.tuned if entry.tuned else not of_grid)
    asked = {"methods": cell.method, "data": cell.data, "sizes": cell.size, "seeds": cell.seed}
    chosen = all(value in (getattr(entry, key) or [value]) for key, value in asked.items())
    return chosen and entry.takes_size(cell.size) and (of_grid or not entry.tuned)


def other_seeds(cell: AnyCell, seeds: Sequence[int]) -> list[Cell]:
    """Return the cells that differ from a cell in their seed alone, in the order of the seeds.

    A model that was fine-tuned elsewhere has none.
    """
    if isinstance(cell, TunedCell) or cell.size == "all":
        return []
    return [replace(cell, seed=seed) for seed in seeds if seed != cell.seed]


def cells_read(strategy: str, cell: AnyCell, seeds: Sequence[int]) -> list[AnyCell]:
    """Return the cells whose deltas a restoration of a cell reads: its own, and those that a strategy compares with."""
    return [cell, *(other_seeds(cell, seeds) if STRATEGY_TRAITS[strategy].other_seeds else [])]


def describe(planned: Sequence[Cell], levels: pa.Table, elsewhere: Sequence[TunedCell] = ()) -> pa.Table:
    """Return every planned cell and whether it can be run, in the schema `CELLS`.

    Args:
        planned: the cells of the grid.
        levels: counts of facts, in the schema `LEVEL_COUNTS`.
        elsewhere: the cells that were fine-tuned elsewhere, which can always be run.
    """
    can_run, rows = set(feasible(planned, levels)), []
    for cell in planned:
        facts, runs = available_facts(levels, cell.data), cell in can_run
        rows.append(
            {
                "run": cell.run,
                "method": cell.method,
                "data": cell.data,
                "size": str(cell.size),
                "facts": facts if cell.size == "all" or not runs else cell.size,
                "seed": cell.seed,
                "state": "run" if runs else "infeasible",
            }
        )
    rows += [{"run": cell.run, "method": TUNED, "data": cell.name, "state": "run"} for cell in elsewhere]
    return pa.Table.from_pylist(rows, schema=CELLS)
