"""Draw an order of training facts: round robin over topics, by seeded hash; a training set is its first n.

python scripts/draw_order.py --mastery mastery.parquet --data level2 --draw s1 --output order.parquet
"""

from dataclasses import dataclass

from cli.command_line import CommandLine, option, run

from knowshift.finetuning.orders import draw_order
from knowshift.finetuning.schemas import ORDERS
from knowshift.mastery.schemas import MASTERY
from knowshift.runtime.parquet import read_table, write_table


@dataclass(frozen=True)
class Options:
    data: str = option("level0 … level4, or mixed")
    draw: str = option("name of the draw")
    seed: int = option("the experiment's seed", 1)


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--mastery", "mastery table")
    parser.path("--output", "order to write (Parquet)")
    arguments, options = parser.read()
    order = draw_order(read_table(arguments.mastery, MASTERY), options.data, options.seed, options.draw)
    write_table(arguments.output, order, ORDERS, {"data": options.data, "draw": options.draw})


if __name__ == "__main__":
    run(main)
