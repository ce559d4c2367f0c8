"""What all ways to undo a part of an update have in common, and the sums of changes per tensor that their tables hold.

A way is a strategy of `restoration`. It has one parameter, the percentage that is undone: 0 is the fine-tuned model and
100 the model before training, bit for bit. `strategies.py` has the list of them.
"""

from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from knowshift.restoration.relative_changes import relative_changes
from knowshift.restoration.schemas import SELECTION
from knowshift.runtime.progress import progress
from knowshift.weights.regions import layer_and_module
from knowshift.weights.versions import Segment, Versions

Pieces = Iterator[tuple[int, np.ndarray]]


class Undoing(Protocol):
    """A model with one share of a region's update undone."""

    @property
    def percent(self) -> float:
        """How much is undone, 0 to 100."""
        ...

    @property
    def parameters(self) -> int:
        """The number of parameters in the region."""
        ...

    @property
    def selected(self) -> int:
        """How many of them are set back to their value before training."""
        ...

    @property
    def threshold(self) -> float | None:
        """The change at the cut, where changes are ranked."""
        ...

    @property
    def tensors(self) -> pa.Table:
        """A row per tensor of the region, in the schema `SELECTION`."""
        ...

    @property
    def names(self) -> Set[str]:
        """The tensors of the region; all others are those after training."""
        ...

    def restored_pieces(self, versions: Versions, name: str) -> Pieces:
        """Yield a tensor of the restored model in consecutive pieces.

        Yields:
            The flat index of the piece's first element, and its bit patterns (one-dimensional).
        """
        ...

    def whole_side(self, name: str, /) -> bool | None:
        """Tell whether a tensor is known to be, bit for bit, that of one side.

        Returns:
            True if it is the one before training, False if it is the one after it, None if it may be neither.
        """
        ...


class ChangeSums(NamedTuple):
    """What training changed in a tensor.

    Attributes:
        parameters: how many it has.
        unchanged: how many relative changes are 0.
        total: the sum of the relative changes.
    """

    parameters: int
    unchanged: int
    total: float


def sum_changes(versions: Versions, threads: int = 1) -> dict[str, ChangeSums]:
    """Sum up the relative changes of every tensor, in one pass over the weights; sums are float64, in a fixed order.

    Raises:
        KnowshiftError: a value is not finite.
    """

    def sum_up(segment: Segment) -> ChangeSums:
        unchanged, total = 0, 0.0
        for piece in versions.pieces(*segment):
            changes = relative_changes(piece)
            unchanged += changes.left_out + int(np.count_nonzero(changes.r == 0))
            total += float(changes.r.sum(dtype=np.float64))
        return ChangeSums(segment.stop - segment.start, unchanged, total)

    segments, found = versions.segments(), dict.fromkeys(versions.shapes, ChangeSums(0, 0, 0.0))
    with ThreadPoolExecutor(threads) as pool:
        done = progress(pool.map(sum_up, segments), what="adding up changes", unit="parts", total=len(segments))
        for (name, _, _), part in zip(segments, done, strict=True):
            found[name] = ChangeSums(*(one + other for one, other in zip(found[name], part, strict=True)))
    return found


def tensor_row(name: str, sums: ChangeSums, restored: int, unchanged: int, undone: float) -> dict:
    """Make the row of `SELECTION` of one tensor.

    Args:
        name: the tensor.
        sums: what training changed in it.
        restored: how many parameters are set back to their value before training.
        unchanged: how many of these training had not changed.
        undone: by how much the sum of relative changes is smaller than with nothing undone.
    """
    layer, module = layer_and_module(name)
    return {
        "tensor": name,
        "layer": layer,
        "module": module,
        "parameters": sums.parameters,
        "restored": restored,
        "restored_unchanged": unchanged,
        "restored_sum": undone,
        "sum": sums.total,
    }


def whole_row(name: str, sums: ChangeSums, back: bool) -> dict:
    """Make the row of a tensor that is set back as a whole, or not at all."""
    restored = (sums.parameters, sums.unchanged, sums.total) if back else (0, 0, 0.0)
    return tensor_row(name, sums, *restored)


def whole_pieces(versions: Versions, name: str, back: bool) -> Pieces:
    """Yield the pieces of a tensor as it was before training, or as it is after it."""
    for piece in versions.pieces(name, 0, versions.parameters(name)):
        yield piece.start, piece.base if back else piece.tuned


def whole_side(percent: float) -> bool | None:
    """Tell whether all tensors of a region are those of one side, by the share that is undone; see `Undoing`."""
    return percent == 100 if percent in (0, 100) else None


@dataclass(frozen=True)
class Tabulated:
    """What follows from the share that is undone and from the table per tensor.

    Attributes:
        percent: how much is undone, 0 to 100.
        rows: a row per tensor of the region, with the columns of `SELECTION`.
    """

    percent: float
    rows: tuple[dict, ...]

    @cached_property
    def tensors(self) -> pa.Table:
        """The rows as a table."""
        return pa.Table.from_pylist(list(self.rows), schema=SELECTION)

    @property
    def names(self) -> frozenset[str]:
        """The tensors of the region."""
        return frozenset(row["tensor"] for row in self.rows)

    @property
    def parameters(self) -> int:
        """The number of parameters in the region."""
        return sum(row["parameters"] for row in self.rows)

    @property
    def selected(self) -> int:
        """How many of them are set back to their value before training."""
        return sum(row["restored"] for row in self.rows)

    @property
    def threshold(self) -> float | None:
        """None: no change is a cut."""
        return None

    def whole_side(self, _: str, /) -> bool | None:
        """Tell whether a tensor is known to be that of one side, see `Undoing`."""
        return whole_side(self.percent)
