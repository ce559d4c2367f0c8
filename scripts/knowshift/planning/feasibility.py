"""Says before anything is probed where an experiment cannot measure what it is for."""

from collections.abc import Mapping, Sequence

from knowshift.finetuning.grid import Cell
from knowshift.planning.fact_counts import TopicSize


def drawable_facts(topics: Mapping[str, TopicSize]) -> int:
    """Count the facts that training sets can draw, whatever their mastery levels turn out to be."""
    return sum(topic.drawable for topic in topics.values() if topic.domain == "in_domain")


def too_few_facts(cell: Cell, facts: int) -> str | None:
    """Say why a run that is asked for by its name cannot be trained.

    Args:
        cell: the cell of the run, which need not be in the grid.
        facts: facts that its training set can be drawn from, or at most so many where levels are not known yet.

    Returns:
        One line for the user, or None if there are facts enough.
    """
    if facts >= (cell.size if isinstance(cell.size, int) else 1):
        return None
    size = f"{cell.size:,} facts" if isinstance(cell.size, int) else "all facts"
    there = f"only {facts:,} {'is' if facts == 1 else 'are'}" if facts else "none is"
    return (
        f"{cell.run} is trained on {size} of the kind {cell.data}, and {there} there; name a run that takes fewer, such"
        " as one of the grid"
    )


def nothing_to_measure(planned: Sequence[Cell], topics: Mapping[str, TopicSize]) -> str | None:
    """Say why no cell can be trained or tested, whatever the mastery levels turn out to be.

    Args:
        planned: the cells of the grid; none where nothing is trained.
        topics: size of every topic by name.

    Returns:
        One line for the user, or None if there are facts enough for some cell.
    """
    drawable = drawable_facts(topics)
    tested = sum(topic.facts["test"] for topic in topics.values() if topic.domain == "in_domain")
    if planned and not drawable:
        return (
            "facts.in_domain: none of its topics has a train fact that test does not ask too, so no model can be"
            " trained; bring train facts, or change facts.split_shares if a table names no splits"
        )
    if not tested:
        return (
            "facts.in_domain: none of its topics has a test fact, so no answer can be graded; bring test facts, or"
            " change facts.split_shares if a table names no splits"
        )
    sizes = [cell.size for cell in planned]
    if sizes and all(isinstance(size, int) and size > drawable for size in sizes):
        return (
            f"finetuning.sizes: the smallest is {min(map(int, sizes)):,}, and only {drawable:,} facts can be trained"
            " on; ask for smaller sizes, or bring more facts"
        )
    return None
