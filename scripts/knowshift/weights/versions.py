"""Two versions of one model, before and after training, read side by side in pieces of a tensor."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.bit_patterns import cast
from knowshift.weights.regions import members
from knowshift.weights.safetensors_files import Weights

PIECE = 1 << 18  # elements: what is computed from them fits into a processor's cache
SEGMENT = 1 << 24  # elements that one thread takes at a time, a multiple of PIECE

_EMBEDDING = re.compile(r"embed|wte|lm_head")


@dataclass(frozen=True)
class Piece:
    """Consecutive elements of a tensor before and after training, flat.

    Attributes:
        name, start: the tensor, and the place of the first element in it.
        dtype: the type of both sides.
        base, tuned: bit patterns, see `floats`.
    """

    name: str
    start: int
    dtype: str
    base: np.ndarray
    tuned: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """A model before and after training.

    Attributes:
        shapes: tensor names, sorted, and their shapes.
        dtypes: the types of the tuned model's tensors.
        read: (name, start, stop) to the bit patterns of these elements before and after, flat, both in the type of the
            tuned model; called from several threads.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    read: Callable[[str, int, int], tuple[np.ndarray, np.ndarray]]

    def within(self, region: str) -> "Pairs":
        """Only the tensors of a region."""
        kept = members(list(self.shapes), region)
        return Pairs({name: self.shapes[name] for name in kept}, self.dtypes, self.read)

    def parameters(self, name: str) -> int:
        """The number of a tensor's parameters."""
        return math.prod(self.shapes[name])

    def segments(self) -> list[tuple[str, int, int]]:
        """(name, start, stop) of parts that threads share out, in the order of (name, start)."""
        return [
            (name, start, min(start + SEGMENT, self.parameters(name)))
            for name in self.shapes
            for start in range(0, self.parameters(name), SEGMENT)
        ]

    def pieces(self, name: str, start: int, stop: int) -> Iterator[Piece]:
        """Consecutive pieces between two places of a tensor."""
        for first in range(start, stop, PIECE):
            yield Piece(name, first, self.dtypes[name], *self.read(name, first, min(first + PIECE, stop)))


def check_same(before: Weights, after: Weights, base: Path, tuned: Path) -> None:
    """Check that two directories hold the same tensors.

    Raises:
        KnowshiftError: names the first tensor that only one has, or that has two shapes.
    """
    if odd := sorted(set(before.places) ^ set(after.places)):
        owner = base if odd[0] in before.places else tuned
        raise KnowshiftError(f"{base} and {tuned} are different models: only {owner} has the tensor {odd[0]}")
    for name, place in before.places.items():
        old, new = list(place.shape), list(after.places[name].shape)
        if old != new:
            resized = "; were the embeddings resized for new tokens?" if _EMBEDDING.search(name) else ""
            raise KnowshiftError(f"tensor {name} is {old} in {base} but {new} in {tuned}{resized}")


def of_directories(base: Path, tuned: Path) -> Pairs:
    """The pairs of two model directories, which may be sharded and typed differently.

    Raises:
        KnowshiftError: they are not versions of one model.
    """
    before, after = Weights(base), Weights(tuned)
    check_same(before, after, base, tuned)

    def read(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        dtypes = before.places[name].dtype, after.places[name].dtype
        return cast(before.piece(name, start, stop), *dtypes), after.piece(name, start, stop)

    places = after.places.items()
    return Pairs({name: place.shape for name, place in places}, {name: place.dtype for name, place in places}, read)
