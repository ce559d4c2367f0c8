"""Says before anything is probed where an experiment cannot measure what it is for."""

from collections.abc import Mapping, Sequence

from knowshift.finetuning.grid import Cell
from knowshift.planning.fact_counts import TopicSize


def nothing_to_measure(planned: Sequence[Cell], topics: Mapping[str, TopicSize]) -> str | None:
    """Say why no cell can be trained or tested, whatever the mastery levels turn out to be.

    Args:
        planned: the cells of the grid; none where nothing is trained.
        topics: size of every topic by name.

    Returns:
        One line for the user, or None if there are facts enough for some cell.
    """
    own = [topic for topic in topics.values() if topic.domain == "in_domain"]
    drawable, tested = sum(topic.drawable for topic in own), sum(topic.facts["test"] for topic in own)
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
