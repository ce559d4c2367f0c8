"""Exactly which parameters to restore: the top k % of a whole region, without sorting it (paper, section 4.2).

The floor(n * k / 100) parameters with the largest sort keys are selected over all tensors together, ties broken by (tensor
name, flat index), so any two machines select the same ones. Any number of shares takes two passes: one counts keys per
bin (a stored histogram can stand for it), one looks into the bins where cuts fall.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from knowshift.restoration.concentration import count_of
from knowshift.restoration.relative_changes import BIN_SHIFT, BINS, LOW, keep_freed_memory
from knowshift.restoration.schemas import SELECTION, SELECTIONS
from knowshift.restoration.sort_keys import STRATEGIES, Ranking
from knowshift.restoration.tallies import Tally, count_keys, tally_keys
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.regions import layer_and_module
from knowshift.weights.versions import Pairs


@dataclass(frozen=True)
class Selection:
    """What one share of a region is: every key above `key`, and of those that equal it the first `ties` of each tensor.

    Attributes:
        parameters: n, parameters of the region.
        selected: floor(n * k / 100).
        ties: by tensor.
        tensors: a row per tensor, in the schema `SELECTION`.
    """

    ranking: Ranking
    percent: float
    key: int
    parameters: int
    selected: int
    ties: dict[str, int]
    tensors: pa.Table

    @property
    def threshold(self) -> float | None:
        """The change at the cut, relative or for `absolute` absolute; None for random, or if nothing is selected."""
        if self.ranking.strategy == "random" or not self.selected:
            return None
        return float(np.int32(self.ranking.of_bits(self.key)).view(np.float32))

    def restored(self, pairs: Pairs, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """(place of the first element, bit patterns) of consecutive pieces of a tensor: before training where selected, after it elsewhere."""
        left = self.ties[name]
        for piece in pairs.pieces(name, 0, pairs.parameters(name)):
            keys, _, _ = self.ranking.keys(piece, skip=False)
            mask = keys > self.key
            equal = np.flatnonzero(keys == self.key)[:left]
            mask[equal] = True
            left -= len(equal)
            yield piece.start, np.where(mask, piece.base, piece.tuned)


def select(
    pairs: Pairs,
    strategy: str,
    region: str,
    percents: Sequence[float],
    seed: int = 0,
    threads: int = 1,
    histogram: pa.Table | None = None,
) -> list[Selection]:
    """The exact selection of every share, in two passes over the pairs together.

    Args:
        strategy: one of `STRATEGIES`.
        region: which parameters are ranked together.
        percents: shares of the region's parameters to restore, 0 to 100.
        seed: for the random strategy.
        histogram: of `updates.summarise` for these pairs and this region; saves the first pass of `top` and `bottom`.

    Raises:
        KnowshiftError: there is no such strategy, region or share, or a value is not finite.
    """
    if strategy not in STRATEGIES:
        raise KnowshiftError(f"strategy {strategy!r} is none of {', '.join(STRATEGIES)}")
    if odd := [percent for percent in percents if not 0 <= percent <= 100]:
        raise KnowshiftError(f"{odd[0]} is no share: it must lie between 0 and 100 %")
    keep_freed_memory()
    pairs, ranking, kept = pairs.within(region), Ranking(strategy, seed), {}
    if histogram is not None and ranking.by_relative_change:
        counts = np.zeros(BINS, np.int64)
        counts[histogram["bin"].to_numpy()] = histogram["count"].to_numpy()
        if counts.sum() != (there := sum(map(pairs.parameters, pairs.shapes))):
            raise KnowshiftError(f"the histogram is of {counts.sum()} parameters, but the region {region} has {there}")
        counts = counts[::-1] if strategy == "bottom" else counts
    else:
        counts, kept = count_keys(pairs, ranking, threads)
    parameters = int(counts.sum())
    wanted = [count_of(parameters, percent) for percent in percents]
    from_above = np.cumsum(counts[::-1])
    bin_of = BINS - 1 - np.searchsorted(from_above, wanted)
    cuts, number = np.unique(bin_of, return_inverse=True)
    tallies = tally_keys(pairs, ranking, cuts, kept, threads)

    inside = np.zeros(len(cuts) << BIN_SHIFT, np.int64)
    for tally in tallies.values():
        inside[tally.places] += tally.inside[0].astype(np.int64)
    selections = []
    for percent, selected, cut, bin_ in zip(percents, wanted, number, bin_of, strict=True):
        rest = selected - int(from_above[BINS - 1 - bin_] - counts[bin_])  # to be taken from the bin
        falling = np.cumsum(inside[cut << BIN_SHIFT : (cut + 1) << BIN_SHIFT][::-1])
        place = int(np.searchsorted(falling, rest))
        ties = rest - (int(falling[place - 1]) if place else 0)
        key = int(bin_) << BIN_SHIFT | (LOW - place)
        by_tensor, rows = {}, []
        for name, tally in tallies.items():
            by_tensor[name], row = _restored_of(pairs, ranking, name, tally, int(cut), key, ties)
            ties -= by_tensor[name]
            rows.append(row)
        table = pa.Table.from_pylist(rows, schema=SELECTION)
        selections.append(Selection(ranking, percent, key, parameters, selected, by_tensor, table))
    return selections


def tabulate_selections(selections: Sequence[Selection]) -> pa.Table:
    """Return what each of some selections restores per tensor, in the schema `SELECTIONS`."""
    tables = []
    for one in selections:
        rows = one.tensors.num_rows
        first = [pa.repeat(pa.scalar(value, pa.float64()), rows) for value in (one.percent, one.threshold)]
        tables.append(pa.table([*first, *one.tensors.columns], schema=SELECTIONS))
    return pa.concat_tables(tables)


def _restored_of(
    pairs: Pairs, ranking: Ranking, name: str, tally: Tally, cut: int, key: int, ties: int
) -> tuple[int, dict]:
    """How many of at most `ties` parameters with the key of the cut a tensor takes, and its row of `SELECTION`."""
    place = cut << BIN_SHIFT | key & LOW
    at, above, beyond = np.searchsorted(tally.places, [place, place + 1, (cut + 1) << BIN_SHIFT])
    held = tally.classes[:, 2 * cut + 2 :].sum(1) + tally.inside[:, above:beyond].sum(1)
    equal = tally.inside[:, at:above].sum(1)
    taken = min(int(equal[0]), ties)
    held += equal if taken == equal[0] else _first(pairs, ranking, name, key, taken)
    layer, module = layer_and_module(name)
    count, total, unchanged = held
    row = {
        "tensor": name,
        "layer": layer,
        "module": module,
        "parameters": pairs.parameters(name),
        "restored": int(count),
        "restored_unchanged": int(unchanged),
        "restored_sum": float(total),
        "sum": float(tally.classes[1].sum()),
    }
    return taken, row


def _first(pairs: Pairs, ranking: Ranking, name: str, key: int, count: int) -> np.ndarray:
    """(3,): number, sum of r and number unchanged of a tensor's first `count` parameters with a key."""
    if ranking.by_relative_change:  # they all have one r
        r = float(np.int32(ranking.of_bits(key)).view(np.float32))
        return np.array([count, count * r, count * (r == 0)], float)
    total, left = np.zeros(3), count
    for piece in pairs.pieces(name, 0, pairs.parameters(name)):
        if not left:
            break
        keys, r, _ = ranking.keys(piece, skip=False)
        equal = np.flatnonzero(keys == key)[:left]
        total += [len(equal), r[equal].sum(dtype=np.float64), np.count_nonzero(r[equal] == 0)]
        left -= len(equal)
    return total
