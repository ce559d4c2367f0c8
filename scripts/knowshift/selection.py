"""Exactly which parameters to restore: the top k % of a whole region, without sorting it (paper, section 4.2).

Every strategy gives each parameter a 31-bit sort key; the floor(n * k / 100) largest keys are selected over all tensors
together, ties broken by (tensor name, flat index), so any two machines select the same parameters. Any number of shares
takes two passes: one counts keys per bin (a stored histogram can stand for it), one looks into the bins where cuts fall.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from knowshift.change_tables import SELECTION, count_of
from knowshift.changes import BIN_SHIFT, BINS, LOW, changes
from knowshift.counting import ROOM, Counter, Distinct
from knowshift.errors import KnowshiftError
from knowshift.pairs import Pairs, Piece
from knowshift.progress import progress
from knowshift.randomness import counter_bits, derive_seed
from knowshift.regions import layer_and_module

STRATEGIES = ("top", "bottom", "random", "absolute")
LARGEST = 0x7FFFFFFF
KEPT = 1 << 24  # distinct pairs that the first pass leaves in memory for the second

Segment = tuple[str, int, int]


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
    def unchanged_key(self) -> int:
        """The key of a parameter that did not change (random has none)."""
        return LARGEST if self.strategy == "bottom" else 0

    def of_bits(self, bits: np.ndarray) -> np.ndarray:
        """The keys of relative changes with these float32 bits, for top and bottom."""
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
        bits = LARGEST - self.key if self.ranking.strategy == "bottom" else self.key
        return float(np.int32(bits).view(np.float32))

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


@dataclass(frozen=True)
class _Tally:
    """Of one tensor (or a part of one): number, sum of r and number unchanged, each per class of parameters.

    Attributes:
        classes: (3, 2m+1) for m bins where cuts fall: 2j+1 is the j-th of them, 2j what lies below it and above the last.
        places, inside: the finer classes (j << 11 | the low bits of the key) that occur in those bins, and (3, …).
    """

    classes: np.ndarray
    places: np.ndarray
    inside: np.ndarray


def count_keys(pairs: Pairs, ranking: Ranking, threads: int = 1) -> tuple[np.ndarray, dict[Segment, Distinct]]:
    """The number of keys in each of the `BINS` bins, over all tensors of `pairs`; distinct pairs that were met and kept."""
    segments, kept, local = pairs.segments(), {}, threading.local()

    def prepare() -> None:
        local.counter, local.counts, local.left = Counter(), np.zeros(BINS, np.int64), KEPT // threads
        every.append((local.counter, local.counts))

    def empty(counter: Counter, counts: np.ndarray) -> None:
        filled = counter.take()
        counts[ranking.of_bits(filled.bins << BIN_SHIFT) >> BIN_SHIFT] += filled.count

    def count(segment: Segment) -> None:
        counts = local.counts
        if ranking.by_value and (distinct := local.counter.distinct(pairs, *segment)):
            keys, _, _ = ranking.keys(distinct[0], skip=False)
            np.add.at(counts, (keys >> BIN_SHIFT).astype(np.intp), distinct[1])
            if len(keys) <= local.left:
                local.left -= len(keys)
                kept[segment] = distinct
            return
        if local.counter.size + segment[2] - segment[1] > ROOM:
            empty(local.counter, counts)
        for piece in pairs.pieces(*segment):
            if ranking.strategy in ("top", "bottom"):
                local.counter.add(piece)
            else:
                keys, _, same = ranking.keys(piece)
                np.add.at(counts, (keys >> BIN_SHIFT).astype(np.intp), 1)
                counts[ranking.unchanged_key >> BIN_SHIFT] += same

    every: list[tuple[Counter, np.ndarray]] = []
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        list(progress(pool.map(count, segments), what="ranking", unit="parts", total=len(segments)))
    for one in every:
        empty(*one)
    return sum(counts for _, counts in every), kept


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
    pairs, ranking, kept = pairs.within(region), Ranking(strategy, seed), {}
    if histogram is not None and strategy in ("top", "bottom"):
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
    tallies = _tally(pairs, ranking, cuts, kept, threads)

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


def _tally(
    pairs: Pairs, ranking: Ranking, cuts: np.ndarray, kept: dict[Segment, Distinct], threads: int
) -> dict[str, _Tally]:
    """The second pass: every tensor's parameters by class."""
    rises = np.zeros(BINS + 1, np.uint16)  # the class rises where a bin with a cut begins, and where it ends
    np.add.at(rises, np.concatenate([cuts, cuts + 1]), 1)
    class_of = np.cumsum(rises[:-1], dtype=np.uint16)
    local = threading.local()

    def prepare() -> None:
        local.counter = Counter(BINS - 1 - cuts if ranking.strategy == "bottom" else cuts)

    def tally(segment: Segment) -> _Tally:
        classes, inside = np.zeros((3, 2 * len(cuts) + 1)), np.zeros((3, len(cuts) << BIN_SHIFT))

        def add(keys: np.ndarray, values: tuple[np.ndarray, ...], whole: bool = True, finer: bool = True) -> None:
            kind = np.take(class_of, keys >> BIN_SHIFT).astype(np.intp)
            if whole:
                for row, value in zip(classes, values, strict=True):
                    row += np.bincount(kind, value, row.size)
            there = np.flatnonzero((kind & 1).astype(bool)) if finer else ()  # numpy is quick with bool
            if len(there):
                places = (kind[there] >> 1 << BIN_SHIFT) | (keys[there] & LOW)
                for row, value in zip(inside, values, strict=True):
                    np.add.at(row, places, value[there].astype(float))

        distinct = kept.get(segment) or (local.counter.distinct(pairs, *segment) if ranking.by_value else None)
        if distinct is None and ranking.strategy in ("top", "bottom"):
            wanted = [local.counter.add(piece)[1] for piece in pairs.pieces(*segment)]
            unchanged, filled = local.counter.unchanged, local.counter.take()
            number, zeros = filled.count, np.where(filled.bins == 0, unchanged, 0)
            add(ranking.of_bits(filled.bins << BIN_SHIFT), (number, filled.sums(), zeros), finer=False)
            bits = np.concatenate([*wanted, np.zeros(1, np.int32)])  # those of 0 are counted, not wanted
            number = np.append(np.ones(len(bits) - 1), unchanged)
            add(ranking.of_bits(bits), (number, number * bits.view(np.float32), number * (bits == 0)), whole=False)
        else:
            for piece, counts in [distinct] if distinct else ((piece, None) for piece in pairs.pieces(*segment)):
                keys, r, same = ranking.keys(piece, skip=counts is None)
                if same:  # they follow as one pair
                    keys, r = np.append(keys, ranking.unchanged_key), np.append(r, 0)
                    counts = np.append(np.ones(len(r) - 1), same)
                if counts is None:
                    add(keys, (np.ones(len(r)), r, r == 0))
                else:
                    number = counts.astype(float)
                    add(keys, (number, number * r, number * (r == 0)))
        places = np.flatnonzero(inside[0])
        return _Tally(classes, places, inside[:, places])

    segments = pairs.segments()
    found: dict[str, _Tally] = {}
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        done = progress(pool.map(tally, segments), what="selecting", unit="parts", total=len(segments))
        for (name, _, _), part in zip(segments, done, strict=True):
            found[name] = _join(found[name], part) if name in found else part
    return found


def _join(one: _Tally, other: _Tally) -> _Tally:
    places = np.union1d(one.places, other.places)
    inside = np.zeros((3, len(places)))
    for part in (one, other):
        inside[:, np.searchsorted(places, part.places)] += part.inside
    return _Tally(one.classes + other.classes, places, inside)


def _restored_of(
    pairs: Pairs, ranking: Ranking, name: str, tally: _Tally, cut: int, key: int, ties: int
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
    if ranking.strategy in ("top", "bottom"):  # they all have one r
        bits = LARGEST - key if ranking.strategy == "bottom" else key
        r = float(np.int32(bits).view(np.float32))
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
