"""Two versions of one model, before and after training, read side by side in pieces of a tensor."""

import math
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.bit_patterns import cast
from knowshift.weights.counterparts import check_shapes, is_vocabulary, rows_beyond, with_own_head
from knowshift.weights.regions import names_in_region
from knowshift.weights.safetensors_files import StoredTensor, WeightFiles

PIECE = 1 << 18  # elements of a piece: what is computed from them fits into a processor's cache
SEGMENT = 1 << 24  # elements of the part of a tensor that one thread takes at a time; a multiple of PIECE


class Segment(NamedTuple):
    """A part of a tensor that one thread works on: its elements from the flat index `start` to before `stop`."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Piece:
    """Consecutive elements of a tensor before and after training.

    Attributes:
        name: the tensor.
        start: the flat index in the tensor of the first element.
        dtype: the type of both sides.
        base: bit patterns before training (see `bit_patterns`), one-dimensional.
        tuned: bit patterns after training, of the same length.
    """

    name: str
    start: int
    dtype: str
    base: np.ndarray
    tuned: np.ndarray


@dataclass(frozen=True)
class Versions:
    """A model before and after training.

    Attributes:
        shapes: the shape of each tensor before training, by name, sorted. Where the vocabulary has grown, these are the
            rows that both versions have.
        dtypes: the type of each tensor after training.
        read: returns the bit patterns before and after training of a tensor's elements, for (name, start, stop). Both
            are one-dimensional and in the type after training. It is called from several threads.
        no_parameters: names of stored tensors that no region has, see `WeightFiles`.
        added: where the rows are stored that only the version after training has, in its type, by name.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    read: Callable[[str, int, int], tuple[np.ndarray, np.ndarray]]
    no_parameters: Set[str] = frozenset()
    added: Mapping[str, StoredTensor] = field(default_factory=dict)

    def within(self, region: str) -> "Versions":
        """Keep only the parameters of a region.

        Raises:
            KnowshiftError: no tensor is in the region.
        """
        kept = names_in_region([name for name in self.shapes if name not in self.no_parameters], region)
        return Versions({name: self.shapes[name] for name in kept}, self.dtypes, self.read)

    def parameters(self, name: str) -> int:
        """Count the parameters of a tensor."""
        return math.prod(self.shapes[name])

    def segments(self) -> list[Segment]:
        """Divide all tensors into segments of at most `SEGMENT` elements, in the order of (name, start)."""
        return [
            Segment(name, start, min(start + SEGMENT, self.parameters(name)))
            for name in self.shapes
            for start in range(0, self.parameters(name), SEGMENT)
        ]

    def pieces(self, name: str, start: int, stop: int) -> Iterator[Piece]:
        """Read the elements of a tensor from the flat index `start` to before `stop`, `PIECE` of them at a time."""
        for first in range(start, stop, PIECE):
            yield Piece(name, first, self.dtypes[name], *self.read(name, first, min(first + PIECE, stop)))


def check_same_tensors(before: WeightFiles, after: WeightFiles, base: Path, tuned: Path) -> None:
    """Check that two model directories hold tensors of the same names and shapes, apart from rows for new tokens.

    Args:
        before: the weights in `base`.
        after: the weights in `tuned`.
        base: the directory before training, for the message.
        tuned: the directory after training, for the message.

    Raises:
        KnowshiftError: names the first tensor that only one of them has, or whose shapes differ.
    """
    if odd := sorted(set(before.tensors) ^ set(after.tensors)):
        owner = base if odd[0] in before.tensors else tuned
        tied = "; is its output head tied in one of them alone?" if is_vocabulary(odd[0]) else ""
        raise KnowshiftError(f"{base} and {tuned} are different models: only {owner} has the tensor {odd[0]}{tied}")
    check_shapes(before.tensors, after.tensors, base, tuned)


def versions_in_directories(base: Path, tuned: Path) -> Versions:
    """Open two model directories as versions of one model; their shards and types may differ.

    Raises:
        KnowshiftError: they are not versions of one model, see `check_same_tensors`.
    """
    after = WeightFiles(tuned)
    before = with_own_head(WeightFiles(base), after.tensors)
    check_same_tensors(before, after, base, tuned)

    def read(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        dtypes = before.tensors[name].dtype, after.tensors[name].dtype
        return cast(before.piece(name, start, stop), *dtypes), after.piece(name, start, stop)

    tensors = after.tensors.items()
    shapes = {name: before.tensors[name].shape for name in after.tensors}
    dtypes = {name: tensor.dtype for name, tensor in tensors}
    added = {name: rows_beyond(tensor, shapes[name][0]) for name, tensor in tensors if tensor.shape != shapes[name]}
    return Versions(shapes, dtypes, read, before.no_parameters, added)
