"""The strategies of restoration by name: what carries each one out.

`knowshift.allowed_values.STRATEGY_TRAITS` says the same names with what other rooms have to know of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from knowshift.restoration.blending import Rescaled, interpolate
from knowshift.restoration.low_rank import cut_ranks
from knowshift.restoration.relative_changes import keep_freed_memory
from knowshift.restoration.schemas import SELECTIONS
from knowshift.restoration.selection import Selection, select
from knowshift.restoration.sort_keys import (
    MOST_OTHERS,
    Absolute,
    Bottom,
    Random,
    SignAgreeing,
    Smallest,
    SortKeys,
    Top,
)
from knowshift.restoration.undoing import Undoing
from knowshift.restoration.whole_layers import undo_layers
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
    others: tuple[Versions, ...]

    def select(self, sort_keys: SortKeys) -> list[Selection]:
        """Set back the parameters with the largest keys."""
        return select(self.versions, sort_keys, self.percents, self.threads, self.histogram)

    def agreeing(self) -> SignAgreeing:
        """Return the sort keys that compare with other seeds."""
        if not 0 < len(self.others) <= MOST_OTHERS:
            raise KnowshiftError(
                f"the strategy sign_agreeing compares with the fine-tuned models of 1 to {MOST_OTHERS} other seeds, and"
                f" {len(self.others)} are given; name their deltas with --others"
            )
        for other in self.others:
            for name, shape in self.versions.shapes.items():
                if other.shapes.get(name) != shape:
                    raise KnowshiftError(
                        f"a model of --others has no tensor {name} of this shape: the strategy sign_agreeing compares"
                        " models of one training with several seeds"
                    )
        return SignAgreeing(self.others)


STRATEGIES: dict[str, Callable[[_Asked], Sequence[Undoing]]] = {
    "top": lambda asked: asked.select(Top()),
    "bottom": lambda asked: asked.select(Bottom()),
    "absolute": lambda asked: asked.select(Absolute()),
    "smallest": lambda asked: asked.select(Smallest()),
    "random": lambda asked: asked.select(Random(asked.seed)),
    "sign_agreeing": lambda asked: asked.select(asked.agreeing()),
    "last_layers": lambda asked: undo_layers(asked.versions, asked.percents, True, asked.threads),
    "first_layers": lambda asked: undo_layers(asked.versions, asked.percents, False, asked.threads),
    "interpolate": lambda asked: interpolate(asked.versions, asked.percents, asked.threads),
    "drop_rescale": lambda asked: [Rescaled(one) for one in asked.select(Random(asked.seed))],
    "low_rank": lambda asked: cut_ranks(asked.versions, asked.percents, asked.seed, asked.threads),
}


def undo(
    versions: Versions,
    strategy: str,
    region: str,
    percents: Sequence[float],
    seed: int = 0,
    threads: int = 1,
    histogram: pa.Table | None = None,
    others: Sequence[Versions] = (),
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
        others: the base beside a fine-tuned model of each other seed, for `sign_agreeing`.

    Returns:
        What is undone, per share.

    Raises:
        KnowshiftError: there is no such strategy, region or share, the histogram is of another region, no model of
            another seed is given to a strategy that needs one, or a value is not finite.
    """
    if strategy not in STRATEGIES:
        raise KnowshiftError(f"strategy {strategy!r} is none of {', '.join(STRATEGIES)}")
    if odd := [percent for percent in percents if not 0 <= percent <= 100]:
        raise KnowshiftError(f"{odd[0]} is no share: it must lie between 0 and 100 %")
    keep_freed_memory()
    asked = _Asked(versions.within(region), percents, seed, threads, histogram, tuple(others))
    return STRATEGIES[strategy](asked)


def tabulate_undoings(undoings: Sequence[Undoing]) -> pa.Table:
    """Return what each of some shares sets back per tensor, in the schema `SELECTIONS`."""
    tables = []
    for one in undoings:
        rows = one.tensors.num_rows
        first = [pa.repeat(pa.scalar(value, pa.float64()), rows) for value in (one.percent, one.threshold)]
        tables.append(pa.table([*first, *one.tensors.columns], schema=SELECTIONS))
    return pa.concat_tables(tables)
