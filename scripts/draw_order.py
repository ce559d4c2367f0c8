"""Draw an order of training facts: round robin over topics, by seeded hash; a training set is its first n facts.

python scripts/draw_order.py --mastery mastery.parquet --data level2 --draw s1 --output order.parquet
"""

from pydantic import Field

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.finetuning import Drawn
from knowshift.configuration.section import Seeded


class Options(Seeded):
    """Which order is drawn."""

    data: Drawn = Field(
        description="Mastery level that the facts are drawn from; mixed draws from all, known from levels 3 and 4."
    )
    draw: str = Field(description="Name of the draw; another name gives another order.")


def main() -> None:
    """Read the command line, draw, and write the order."""
    parser = CommandLine(__doc__, Options)
    parser.file("--mastery", "Mastery table (Parquet).")
    parser.new_file("--output", "Order to write (Parquet).")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.finetuning.orders import draw_order
        from knowshift.finetuning.schemas import ORDERS
        from knowshift.mastery.schemas import MASTERY
        from knowshift.runtime.parquet import read_table, write_table

    order = draw_order(read_table(arguments.mastery, MASTERY), options.data, options.seed, options.draw)
    write_table(arguments.output, order, ORDERS, {"data": options.data, "draw": options.draw})


if __name__ == "__main__":
    run(main)
