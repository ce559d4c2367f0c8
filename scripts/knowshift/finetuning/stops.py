"""Which cells are a training that is stopped early, and where their models are kept.

Such a cell is not trained. The training that it is an earlier state of keeps a model after each share of its steps that
some cell asks for, in its checkpoint, so all shares of one training cost one training.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from knowshift.canonical import plain_number
from knowshift.configuration.finetuning import Finetuning
from knowshift.finetuning.grid import Cell

STOPS = "stops"  # folder in a checkpoint, with a model directory for each share


def trained_cell(cell: Cell, grid: Finetuning | None) -> Cell:
    """Return the cell whose training makes a cell's model: itself, or the one that it stops early."""
    stop = grid.stop_of(cell.method) if grid else None
    return replace(cell, method=stop.method) if stop else cell


def stops_by_training(cells: Iterable[Cell], grid: Finetuning | None) -> dict[Cell, list[float]]:
    """Map each cell that is trained and stopped early to the shares of its steps, ascending.

    Args:
        cells: the cells that are wanted; those that do not stop early count for nothing.
        grid: the section `finetuning`.
    """
    shares: dict[Cell, set[float]] = {}
    for cell in cells if grid else ():
        if grid and (stop := grid.stop_of(cell.method)):
            shares.setdefault(trained_cell(cell, grid), set()).add(stop.stop_at)
    return {cell: sorted(some) for cell, some in shares.items()}


def step_of(share: float, steps: int) -> int:
    """Return after which step, from 1, a share of a training's steps is done: the nearest whole number of them."""
    return max(1, round(share * steps))


def stop_folder(folder: Path, share: float) -> Path:
    """Return where the model after a share of the steps lies in a checkpoint, or in a folder of saved state."""
    return folder / STOPS / plain_number(share)
