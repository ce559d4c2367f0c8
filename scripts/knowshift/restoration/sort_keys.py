"""The order in which a restoration takes parameters: a 31-bit sort key for each (paper, section 4.2)."""

from dataclasses import dataclass
from typing import get_args

import numpy as np

from knowshift.allowed_values import Strategy
from knowshift.randomness import counter_bits, derive_seed
from knowshift.restoration.relative_changes import changes
from knowshift.weights.versions import Piece

STRATEGIES = get_args(Strategy)
LARGEST = 0x7FFFFFFF


@dataclass(frozen=True)
class Ranking:
    """An order of parameters, by a strategy.

    top: the largest relative changes first; bottom: the smallest; absolute: the largest |s - p|, s after and p before
    training; random: by a counter under the seed and the tensor's name.
    """

    strategy: str
    seed: int = 0

    @property
    def by_value(self) -> bool:
        """Whether the key depends on the values before and after alone."""
        return self.strategy != "random"

    @property
    def by_relative_change(self) -> bool:
        """Whether the key follows from r alone, so that a histogram of r tells how many keys each bin holds."""
        return self.strategy in ("top", "bottom")

    @property
    def unchanged_key(self) -> int:
        """The key of a parameter that did not change (random has none)."""
        return LARGEST if self.strategy == "bottom" else 0

    def of_bits(self, bits: np.ndarray | int) -> np.ndarray | int:
        """The keys of relative changes with these float32 bits, for top and bottom; of keys, the bits."""
        return LARGEST - bits if self.strategy == "bottom" else bits

    def keys(self, piece: Piece, skip: bool = True) -> tuple[np.ndarray, np.ndarray, int]:
        """The sort keys of a piece of a tensor.

        Args:
            piece: the piece.
            skip: leave out unchanged parameters where that saves time; never done for random.

        Returns:
            Keys (int32, non-negative, larger is selected sooner), relative changes, and the number left out.
        """
        change = changes(piece, skip and self.by_value)
        if self.strategy == "random":
            counters = np.arange(piece.start, piece.start + change.r.size, dtype=np.uint64)
            bits = counter_bits(np.uint64(derive_seed(self.seed, "restore", piece.name)), counters)
            keys = (bits >> np.uint64(33)).astype(np.int32)
        elif self.strategy == "absolute":
            keys = np.abs(change.after - change.before).view(np.int32)
        else:
            keys = self.of_bits(change.r.view(np.int32))
        return keys, change.r, change.same
