"""What all ways to undo a part of an update have in common: `strategies.py` has the list of them."""

from collections.abc import Iterator, Set
from typing import Protocol

import numpy as np
import pyarrow as pa

from knowshift.weights.versions import Versions

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
