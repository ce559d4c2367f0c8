"""The cells of an experiment: which models are fine-tuned, on what, and which of that can be run at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from knowshift.finetuning.orders import data_levels
from knowshift.finetuning.schemas import CELLS


@dataclass(frozen=True)
class Cell:
    """One fine-tuned model."""

    method: str
    data: str
    size: int | str
    seed: int

    @property
    def run(self) -> str:
        """The cell's name, used in paths: `full-level2-240-s1`."""
        return f"{self.method}-{self.data}-{self.size}-s{self.seed}"

    @classmethod
    def parse(cls, run: str) -> "Cell":
        """The cell of a name."""
        method, data, size, seed = run.split("-")
        return cls(method, data, size if size == "all" else int(size), int(seed.removeprefix("s")))


def cells(
    methods: Sequence[str],
    data: Sequence[str],
    sizes: Sequence[int | str],
    seeds: Sequence[int],
    method_data: Mapping[str, Sequence[str]] | None = None,
) -> list[Cell]:
    """All cells of a grid; `all` takes every fact, so it has one draw, the first seed's.

    Args:
        method_data: of a method that is not run on all kinds of data, those it is run on.
    """
    return [
        Cell(method, kind, size, seed)
        for method in methods
        for kind in (method_data or {}).get(method, data)
        for size in sizes
        for seed in (seeds[:1] if size == "all" else seeds)
    ]


def available_facts(levels: pa.Table, data: str) -> int:
    """How many facts a data kind can draw.

    Args:
        levels: in the schema `LEVEL_COUNTS`.
    """
    wanted = data_levels(data)
    columns = (levels[name].to_pylist() for name in ("level", "drawable"))
    return sum(count for level, count in zip(*columns, strict=True) if wanted is None or level in wanted)


def feasible(planned: Sequence[Cell], levels: pa.Table) -> list[Cell]:
    """The cells that there are facts enough for."""
    facts = {data: available_facts(levels, data) for data in {cell.data for cell in planned}}
    return [cell for cell in planned if facts[cell.data] >= (1 if cell.size == "all" else cell.size)]


def is_restored(entry: Any, model: str, cell: Cell) -> bool:
    """Whether an entry under `restoration` of the configuration takes in a cell of a model: what it does not name, it takes all of."""
    asked = {"models": model, "methods": cell.method, "data": cell.data, "sizes": cell.size, "seeds": cell.seed}
    return all(value in (getattr(entry, key) or [value]) for key, value in asked.items())


def describe(planned: Sequence[Cell], levels: pa.Table) -> pa.Table:
    """Every planned cell and whether it can be run, in the schema `CELLS`."""
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
    return pa.Table.from_pylist(rows, schema=CELLS)
