"""Sort keys: a 31-bit integer per parameter, by which a restoration strategy decides what to restore first.

See section 4.2 of the paper. The parameters with the largest keys are restored.
"""

from dataclasses import dataclass
from typing import TypeVar, get_args

import numpy as np

from knowshift.allowed_values import HISTOGRAM_STRATEGIES, Strategy
from knowshift.randomness import counter_bits, derive_seed
from knowshift.restoration.relative_changes import relative_changes
from knowshift.weights.versions import Piece

STRATEGY_NAMES = get_args(Strategy)
LARGEST = 0x7FFFFFFF  # the largest key

Integers = TypeVar("Integers", int, np.ndarray)


@dataclass(frozen=True)
class SortKeys:
    """The sort keys of a restoration strategy.

    The key of top is the float32 bits of the relative change r, and that of bottom their complement; of non-negative
    floats, the larger one has the larger bits. The key of absolute is the bits of |after - before|. The key of random
    is drawn from a counter under the seed and the tensor's name, so that any element's key can be had alone.

    Attributes:
        strategy: top, bottom, absolute or random.
        seed: the seed of random.
    """

    strategy: str
    seed: int = 0

    @property
    def by_value(self) -> bool:
        """Whether a key depends on nothing but the parameter's values before and after training."""
        return self.strategy != "random"

    @property
    def by_relative_change(self) -> bool:
        """Whether a key follows from r alone, so that a histogram of r tells how many keys each bin holds."""
        return self.strategy in HISTOGRAM_STRATEGIES

    @property
    def unchanged_key(self) -> int:
        """The key of every parameter that did not change (meaningless for random)."""
        return LARGEST if self.strategy == "bottom" else 0

    def from_changes(self, bits: Integers) -> Integers:
        """Turn the float32 bits of relative changes into the keys of top or bottom."""
        return LARGEST - bits if self.strategy == "bottom" else bits

    def to_changes(self, keys: Integers) -> Integers:
        """Turn the keys of top or bottom into the float32 bits of the relative changes, which undoes `from_changes`."""
        return self.from_changes(keys)

    def of_piece(self, piece: Piece, skip_unchanged: bool = True) -> tuple[np.ndarray, np.ndarray, int]:
        """Compute the sort keys of a piece of a tensor.

        Args:
            piece: the piece, of n elements.
            skip_unchanged: leave out unchanged parameters where that saves time; random never does.

        Returns:
            Keys (int32 of shape (n,), not negative), relative changes (float32 of shape (n,)), and how many unchanged
            parameters were left out of both.

        Raises:
            KnowshiftError: a value is not finite.
        """
        changes = relative_changes(piece, skip_unchanged and self.by_value)
        if self.strategy == "random":
            counters = np.arange(piece.start, piece.start + changes.r.size, dtype=np.uint64)
            stream = np.array(derive_seed(self.seed, "restore", piece.name), np.uint64)
            keys = (counter_bits(stream, counters) >> np.uint64(33)).astype(np.int32)
        elif self.strategy == "absolute":
            keys = np.abs(changes.after - changes.before).view(np.int32)
        else:
            keys = self.from_changes(changes.r.view(np.int32))
        return keys, changes.r, changes.left_out
