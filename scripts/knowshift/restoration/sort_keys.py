"""Sort keys: a 31-bit integer per parameter, by which a restoration strategy decides what to restore first.

See section 4.2 of the paper. The parameters with the largest keys are restored.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from knowshift.randomness import counter_bits, derive_seed
from knowshift.restoration.relative_changes import RelativeChanges, relative_changes
from knowshift.weights.bit_patterns import as_float32
from knowshift.weights.versions import Piece, Versions

LARGEST = 0x7FFFFFFF  # the largest key
MOST_OTHERS = 0x7F  # models that the upper bits of a key can count

Integers = TypeVar("Integers", int, np.ndarray)


@dataclass(frozen=True)
class SortKeys(ABC):
    """The sort keys of a restoration strategy; there is a class for each strategy that selects parameters.

    Attributes:
        by_value: whether a key depends on nothing but the parameter's values before and after training.
        by_relative_change: whether it follows from the relative change r alone, so that a histogram of r tells how
            many keys each bin holds.
        unchanged_key: the key of every parameter that did not change (meaningless where a key is not by value).
    """

    by_value: ClassVar[bool] = True
    by_relative_change: ClassVar[bool] = False
    unchanged_key: ClassVar[int] = 0

    def from_changes(self, bits: Integers) -> Integers:
        """Turn the float32 bits of the changes that are ranked into keys."""
        return bits

    def to_changes(self, keys: Integers) -> Integers:
        """Turn keys into the float32 bits of the changes that are ranked, which undoes `from_changes`."""
        return self.from_changes(keys)

    def change_at(self, key: int) -> float | None:
        """Return the change that a key stands for, or None where keys do not follow from a change."""
        return float(np.int32(self.to_changes(key)).view(np.float32))

    def of_piece(self, piece: Piece, skip_unchanged: bool = True) -> tuple[np.ndarray, np.ndarray, int]:
        """Compute the sort keys of a piece of a tensor.

        Args:
            piece: the piece, of n elements.
            skip_unchanged: leave out unchanged parameters where that saves time, which needs keys by value.

        Returns:
            Keys (int32 of shape (n,), not negative), relative changes (float32 of shape (n,)), and how many unchanged
            parameters were left out of both.

        Raises:
            KnowshiftError: a value is not finite.
        """
        changes = relative_changes(piece, skip_unchanged and self.by_value)
        return self._keys(piece, changes), changes.r, changes.left_out

    @abstractmethod
    def _keys(self, piece: Piece, changes: RelativeChanges) -> np.ndarray:
        """Return the key of each parameter that `changes` holds, int32 of shape (n,)."""


class Top(SortKeys):
    """The float32 bits of r. Of non-negative floats, the larger one has the larger bits."""

    by_relative_change = True

    def _keys(self, piece: Piece, changes: RelativeChanges) -> np.ndarray:
        return self.from_changes(changes.r.view(np.int32))


class Bottom(Top):
    """The complement of the float32 bits of r."""

    unchanged_key = LARGEST

    def from_changes(self, bits: Integers) -> Integers:
        """Turn the float32 bits of relative changes into keys."""
        return LARGEST - bits


class Absolute(SortKeys):
    """The float32 bits of |after - before|."""

    def _keys(self, piece: Piece, changes: RelativeChanges) -> np.ndarray:
        return self.from_changes(np.abs(changes.after - changes.before).view(np.int32))


class Smallest(Absolute):
    """The complement of the float32 bits of |after - before|: what TIES trims (Yadav et al. 2023)."""

    unchanged_key = LARGEST

    def from_changes(self, bits: Integers) -> Integers:
        """Turn the float32 bits of absolute changes into keys."""
        return LARGEST - bits


@dataclass(frozen=True)
class Random(SortKeys):
    """A counter under the seed and the tensor's name, so that any element's key can be had alone.

    Attributes:
        seed: the seed.
    """

    by_value = False
    seed: int

    def change_at(self, key: int) -> float | None:
        """Return None: a key has nothing to do with the change."""
        return None

    def _keys(self, piece: Piece, changes: RelativeChanges) -> np.ndarray:
        counters = np.arange(piece.start, piece.start + changes.r.size, dtype=np.uint64)
        stream = np.array(derive_seed(self.seed, "restore", piece.name), np.uint64)
        return (counter_bits(stream, counters) >> np.uint64(33)).astype(np.int32)


@dataclass(frozen=True)
class SignAgreeing(SortKeys):
    """How many models of other seeds do not share the sign of the change, and among equals the smaller change.

    The upper 7 bits count the models, and the lower 24 are the complement of the upper bits of |after - before|. The
    sign of an unchanged parameter is 0, which a model shares that has not changed it either.

    Attributes:
        others: the base beside a fine-tuned model of each other seed.
    """

    by_value = False
    others: tuple[Versions, ...]

    def change_at(self, key: int) -> float | None:
        """Return None: the change does not decide alone."""
        return None

    def _keys(self, piece: Piece, changes: RelativeChanges) -> np.ndarray:
        change = changes.after - changes.before
        signs, apart = np.sign(change), np.zeros(len(change), np.int32)
        for other in self.others:
            base, tuned = other.read(piece.name, piece.start, piece.start + len(change))
            before, after = (as_float32(side, other.dtypes[piece.name]) for side in (base, tuned))
            apart += np.sign(after - before) != signs
        return (apart << 24) | ((LARGEST - np.abs(change).view(np.int32)) >> 7)
