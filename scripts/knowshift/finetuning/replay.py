"""Replay: well-known facts that are trained along with the facts that are taught, so that they stay known.

The replayed facts of a cell are the beginning of an order of its own kind, `known`, less the facts that are taught.
"""

import pyarrow as pa


def replayed_count(replay: float, taught: float) -> int:
    """Return how many facts are asked to be trained along.

    Args:
        replay: facts per fact that is taught.
        taught: number of facts that are taught.
    """
    return round(replay * taught)


def replayed_facts(known: pa.Table, taught: pa.Table, replay: float) -> pa.Table:
    """Return the well-known facts that are trained along: the first of their order that are not taught.

    A larger training set of the same draw replays what a smaller one does, except what it teaches.

    Args:
        known: order of well-known facts, in the schema `ORDERS`.
        taught: the training set, in the same schema.
        replay: facts per fact that is taught.

    Returns:
        As many as are asked for, or all there are.
    """
    ids = set(taught["fact_id"].to_pylist())
    others = known.filter(pa.array([fact not in ids for fact in known["fact_id"].to_pylist()], pa.bool_()))
    return others.slice(0, replayed_count(replay, len(taught)))
