"""Exactly which parameters to restore: the top k % of a whole region, without sorting it (paper, section 4.2).

Every strategy gives each parameter a 31-bit sort key; the floor(n * k / 100) largest keys are selected over all tensors
together, ties broken by (tensor name, flat index), so any two machines select the same parameters.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from knowshift.randomness import counter_bits, derive_seed
from knowshift.regions import in_region
from knowshift.updates import BIN_SHIFT, BINS, count_of, order_bits, relative_change

STRATEGIES = ("top", "bottom", "random")
LARGEST = 0x7FFFFFFF

Pair = tuple[str, torch.Tensor, torch.Tensor]


def sort_keys(name: str, base: torch.Tensor, tuned: torch.Tensor, strategy: str, seed: int) -> torch.Tensor:
    """The sort key of every parameter of a tensor: flat int32, non-negative, larger is selected sooner.

    top: the largest relative changes; bottom: the smallest; random: by a counter under the seed and the tensor's name.
    """
    if strategy == "random":
        key = np.uint64(derive_seed(seed, "restore", name))
        bits = counter_bits(key, np.arange(base.numel(), dtype=np.uint64)) >> np.uint64(33)
        return torch.from_numpy(bits.astype(np.int32))
    bits = order_bits(relative_change(base, tuned))
    return LARGEST - bits if strategy == "bottom" else bits


@dataclass(frozen=True)
class Cut:
    """Where a selection ends: every key above `key`, and the first `ties` parameters whose key equals it.

    Attributes:
        parameters: n, parameters of the region.
        selected: floor(n * k / 100).
    """

    key: int
    ties: int
    parameters: int
    selected: int


def find_cut(keys: Callable[[], Iterable[torch.Tensor]], percent: float) -> Cut:
    """The exact cut, in two passes over the keys and memory for one tensor and one histogram bin.

    Args:
        keys: makes an iterator over the keys of every tensor of the region, in one order; called twice.
        percent: k, 0 to 100.
    """
    histogram = np.zeros(BINS, np.int64)
    for tensor in keys():
        histogram += torch.bincount((tensor >> BIN_SHIFT).long(), minlength=BINS).numpy()
    parameters = int(histogram.sum())
    selected = count_of(parameters, percent)
    if selected == 0:
        return Cut(LARGEST, 0, parameters, 0)
    from_above = np.cumsum(histogram[::-1])
    place = int(np.searchsorted(from_above, selected, side="left"))
    bin_ = BINS - 1 - place
    above = int(from_above[place - 1]) if place else 0
    inside = torch.cat([tensor[(tensor >> BIN_SHIFT) == bin_] for tensor in keys()]).sort(descending=True).values
    key = int(inside[selected - above - 1])
    ties = selected - above - int((inside > key).sum())
    return Cut(key, ties, parameters, selected)


class Selector:
    """Marks the selected parameters of one tensor after another; tensors must come in the order of the cut."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._ties = cut.ties

    def mask(self, keys: torch.Tensor) -> torch.Tensor:
        """Flat booleans: which parameters of this tensor are selected."""
        selected = keys > self.cut.key
        if self._ties:
            equal = torch.nonzero(keys == self.cut.key)[: self._ties, 0]
            selected[equal] = True
            self._ties -= len(equal)
        return selected


@dataclass(frozen=True)
class Part:
    """One tensor of a region after restoration.

    Attributes:
        tensor: base where selected, tuned elsewhere.
        restored: how many parameters were selected.
        restored_unchanged: how many of those training had not changed.
        restored_sum: sum(r) of those selected.
        sum: sum(r) of the tensor.
    """

    name: str
    tensor: torch.Tensor
    restored: int
    restored_unchanged: int
    restored_sum: float
    sum: float


def restore(
    pairs: Callable[[], Iterable[Pair]], strategy: str, region: str, percent: float, seed: int
) -> Iterator[Part]:
    """The tensors of a region with the selected part of the update undone.

    Args:
        pairs: makes an iterator over (name, base, tuned) of the same dtype in the order of names; called three times,
            so that no tensor is held.
        strategy: "top", "bottom" or "random".
        region: which parameters are ranked together.
        percent: share of the region's parameters to restore.
        seed: for the random strategy.
    """

    def members() -> Iterator[Pair]:
        return (pair for pair in pairs() if in_region(pair[0], region))

    selector = Selector(find_cut(lambda: (sort_keys(*pair, strategy, seed) for pair in members()), percent))
    for name, base, tuned in members():
        mask = selector.mask(sort_keys(name, base, tuned, strategy, seed))
        r = relative_change(base, tuned).double()
        undone = r[mask]
        yield Part(
            name,
            torch.where(mask, base.reshape(-1), tuned.reshape(-1)).reshape(tuned.shape),
            int(mask.sum()),
            int((undone == 0).sum()),
            float(undone.sum()),
            float(r.sum()),
        )
