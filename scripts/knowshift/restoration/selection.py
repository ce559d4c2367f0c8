"""The exact selection of parameters to restore: k % of a whole region, without sorting it (paper, section 4.2).

The floor(n * k / 100) parameters with the largest sort keys are selected over all tensors together. Ties are broken by
(tensor name, flat index), so that any two machines select the same ones. Any number of shares takes two passes over the
weights: one counts keys per bin (a stored histogram can stand for it), one looks into the bins where cuts fall.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from knowshift.restoration.concentration import count_of
from knowshift.restoration.relative_changes import BIN_SHIFT, BINS, LOW
from knowshift.restoration.schemas import SELECTION
from knowshift.restoration.selection_passes import KeySums, count_keys, sum_around_cuts
from knowshift.restoration.sort_keys import SortKeys
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.regions import layer_and_module
from knowshift.weights.versions import Piece, Versions


@dataclass(frozen=True)
class Selection:
    """The parameters that one share of a region selects: all whose key is above `key`, and some whose key equals it.

    Attributes:
        sort_keys: the strategy's keys.
        percent: k, the share in percent.
        key: the key at the cut.
        parameters: n, the number of parameters in the region.
        selected: floor(n * k / 100).
        ties: how many parameters with exactly the key at the cut are selected of each tensor, the first ones in it.
        tensors: a row per tensor, in the schema `SELECTION`.
    """

    sort_keys: SortKeys
    percent: float
    key: int
    parameters: int
    selected: int
    ties: dict[str, int]
    tensors: pa.Table

    @property
    def threshold(self) -> float | None:
        """The change at the cut: |after - before| for absolute, r for top and bottom.

        It is None where changes are not ranked, and where nothing is selected.
        """
        return self.sort_keys.change_at(self.key) if self.selected else None

    @property
    def names(self) -> Set[str]:
        """The tensors of the region."""
        return self.ties.keys()

    @cached_property
    def _whole_sides(self) -> dict[str, bool | None]:
        columns = (self.tensors[name].to_pylist() for name in ("tensor", "restored", "parameters"))
        return {name: {0: False, every: True}.get(back) for name, back, every in zip(*columns, strict=True)}

    def whole_side(self, name: str, /) -> bool | None:
        """Tell whether a tensor is that of one side, because all or none of it is selected; see `Undoing`."""
        return self._whole_sides[name]

    def restored_pieces(self, versions: Versions, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield a tensor of the restored model in consecutive pieces.

        Yields:
            The flat index of the piece's first element, and its bit patterns (one-dimensional): those before training
            where selected, those after training elsewhere.
        """
        for piece, mask in self.masked_pieces(versions, name):
            yield piece.start, np.where(mask, piece.base, piece.tuned)

    def masked_pieces(self, versions: Versions, name: str) -> Iterator[tuple[Piece, np.ndarray]]:
        """Yield the consecutive pieces of a tensor, and which of their elements are selected (Boolean)."""
        left = self.ties[name]
        for piece in versions.pieces(name, 0, versions.parameters(name)):
            keys, _, _ = self.sort_keys.of_piece(piece, skip_unchanged=False)
            mask = keys > self.key
            equal = np.flatnonzero(keys == self.key)[:left]
            mask[equal] = True
            left -= len(equal)
            yield piece, mask


def select(
    versions: Versions,
    sort_keys: SortKeys,
    percents: Sequence[float],
    threads: int = 1,
    histogram: pa.Table | None = None,
) -> list[Selection]:
    """Select exactly which parameters to restore, for several shares at once.

    Args:
        versions: the parameters of the region, which compete, before and after training.
        sort_keys: the strategy's keys.
        percents: the shares of the region's parameters to restore, 0 to 100.
        threads: how many threads work.
        histogram: the histogram that `measure_changes` made of this region; it saves top and bottom the first pass.

    Returns:
        A selection per share.

    Raises:
        KnowshiftError: the histogram is of another region, or a value is not finite.
    """
    kept = {}
    if histogram is not None and sort_keys.by_relative_change:
        counts = np.zeros(BINS, np.int64)
        bins = sort_keys.from_changes(histogram["bin"].to_numpy() << BIN_SHIFT) >> BIN_SHIFT
        counts[bins] = histogram["count"].to_numpy()
        if counts.sum() != (there := sum(map(versions.parameters, versions.shapes))):
            raise KnowshiftError(f"the histogram is of {counts.sum()} parameters, but the region has {there}")
    else:
        counts, kept = count_keys(versions, sort_keys, threads)
    parameters = int(counts.sum())
    wanted = [count_of(parameters, percent) for percent in percents]
    from_above = np.cumsum(counts[::-1])
    bin_of = BINS - 1 - np.searchsorted(from_above, wanted)
    around = sum_around_cuts(versions, sort_keys, bin_of, kept, threads)
    selections = []
    for percent, selected, bin_, sums in zip(percents, wanted, bin_of, around, strict=True):
        inside = np.zeros(1 << BIN_SHIFT, np.int64)  # the number of parameters in each class within the bin
        for tensor in sums.values():
            inside[tensor.fine_classes] += tensor.fine[0].astype(np.int64)
        rest = selected - int(from_above[BINS - 1 - bin_] - counts[bin_])  # to be taken from the bin with the cut
        falling = np.cumsum(inside[::-1])
        index = int(np.searchsorted(falling, rest))
        ties = rest - (int(falling[index - 1]) if index else 0)
        key = int(bin_) << BIN_SHIFT | (LOW - index)
        by_tensor, rows = {}, []
        for name, tensor in sums.items():
            by_tensor[name], row = _restored_of_tensor(versions, sort_keys, name, tensor, key, ties)
            ties -= by_tensor[name]
            rows.append(row)
        table = pa.Table.from_pylist(rows, schema=SELECTION)
        selections.append(Selection(sort_keys, percent, key, parameters, selected, by_tensor, table))
    return selections


def _restored_of_tensor(
    versions: Versions, sort_keys: SortKeys, name: str, sums: KeySums, key: int, ties: int
) -> tuple[int, dict]:
    """Work out what a selection restores of one tensor.

    Args:
        versions: the model before and after training.
        sort_keys: the strategy's keys.
        name: the tensor.
        sums: the tensor's sums around this selection's cut.
        key: the key at the cut.
        ties: how many parameters with exactly that key may be taken at most.

    Returns:
        How many of them the tensor takes, and its row of `SELECTION`.
    """
    at, above = np.searchsorted(sums.fine_classes, [key & LOW, (key & LOW) + 1])
    held = sums.coarse[:, 2] + sums.fine[:, above:].sum(1)
    equal = sums.fine[:, at:above].sum(1)
    taken = min(int(equal[0]), ties)
    held += equal if taken == equal[0] else _sums_of_first(versions, sort_keys, name, key, taken)
    layer, module = layer_and_module(name)
    count, total, unchanged = held
    row = {
        "tensor": name,
        "layer": layer,
        "module": module,
        "parameters": versions.parameters(name),
        "restored": int(count),
        "restored_unchanged": int(unchanged),
        "restored_sum": float(total),
        "sum": float(sums.coarse[1].sum()),
    }
    return taken, row


def _sums_of_first(versions: Versions, sort_keys: SortKeys, name: str, key: int, count: int) -> np.ndarray:
    """Add up the first `count` parameters of a tensor that have exactly this key.

    Returns:
        Their number, the sum of their r, and the number of unchanged ones, float64 of shape (3,).
    """
    if sort_keys.by_relative_change:  # they all have one r
        r = float(np.int32(sort_keys.to_changes(key)).view(np.float32))
        return np.array([count, count * r, count * (r == 0)], float)
    total, left = np.zeros(3), count
    for piece in versions.pieces(name, 0, versions.parameters(name)):
        if not left:
            break
        keys, r, _ = sort_keys.of_piece(piece, skip_unchanged=False)
        equal = np.flatnonzero(keys == key)[:left]
        total += [len(equal), r[equal].sum(dtype=np.float64), np.count_nonzero(r[equal] == 0)]
        left -= len(equal)
    return total
