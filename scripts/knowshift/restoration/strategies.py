"""The strategies of restoration by name: what carries each one out.

`knowshift.allowed_values.STRATEGY_TRAITS` says the same names with what other rooms have to know of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from knowshift.restoration.relative_changes import keep_freed_memory
from knowshift.restoration.schemas import SELECTIONS
from knowshift.restoration.selection import Selection, select
from knowshift.restoration.sort_keys import Absolute, Bottom, Random, SortKeys, Top
from knowshift.restoration.undoing import Undoing
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.versions import Versions


@dataclass(frozen=True)
class _Asked:
    """What is asked of a strategy: the arguments of `undo`, with the versions of the region alone."""

    versions: Versions
    percents: Sequence[float]
    seed: int
    threads: int
    histogram: pa.Table | None

    def select(self, sort_keys: SortKeys) -> list[Selection]:
        """Set back the parameters with the largest keys."""
        return select(self.versions, sort_keys, self.percents, self.threads, self.histogram)


STRATEGIES: dict[str, Callable[[_Asked], Sequence[Undoing]]] = {
    "top": lambda asked: asked.select(Top()),
    "bottom": lambda asked: asked.select(Bottom()),
    "absolute": lambda asked: asked.select(Absolute()),
    "random": lambda asked: asked.select(Random(asked.seed)),
}


def undo(
    versions: Versions,
    strategy: str,
    region: str,
    percents: Sequence[float],
    seed: int = 0,
    threads: int = 1,
    histogram: pa.Table | None = None,
) -> Sequence[Undoing]:
    """Undo shares of a region's update.

    Args:
        versions: the model before and after training.
        strategy: one of `STRATEGY_TRAITS`.
        region: whose parameters are concerned, see `regions`.
        percents: the shares that are undone, 0 to 100.
        seed: the seed of what is random in a strategy.
        threads: how many threads work.
        histogram: the histogram that `measure_changes` made of this region; it saves top and bottom a pass.

    Returns:
        What is undone, per share.

    Raises:
        KnowshiftError: there is no such strategy, region or share, the histogram is of another region, or a value is
            not finite.
    """
    if strategy not in STRATEGIES:
        raise KnowshiftError(f"strategy {strategy!r} is none of {', '.join(STRATEGIES)}")
    if odd := [percent for percent in percents if not 0 <= percent <= 100]:
        raise KnowshiftError(f"{odd[0]} is no share: it must lie between 0 and 100 %")
    keep_freed_memory()
    asked = _Asked(versions.within(region), percents, seed, threads, histogram)
    return STRATEGIES[strategy](asked)


def tabulate_undoings(undoings: Sequence[Undoing]) -> pa.Table:
    """Return what each of some shares sets back per tensor, in the schema `SELECTIONS`."""
    tables = []
    for one in undoings:
        rows = one.tensors.num_rows
        first = [pa.repeat(pa.scalar(value, pa.float64()), rows) for value in (one.percent, one.threshold)]
        tables.append(pa.table([*first, *one.tensors.columns], schema=SELECTIONS))
    return pa.concat_tables(tables)
