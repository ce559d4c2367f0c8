"""Count the facts of every mastery level, per domain, topic and split.

    python scripts/count_levels.py --mastery mastery.parquet --output levels.parquet

The table's metadata hold a digest of the facts that each data kind may draw.
"""

from cli.command_line import CommandLine, run

from knowshift.finetuning.orders import drawable_digests
from knowshift.mastery.levels import count_levels
from knowshift.mastery.schemas import LEVEL_COUNTS, MASTERY
from knowshift.runtime.parquet import read_table, write_table


def main() -> None:
    parser = CommandLine(__doc__)
    parser.path("--mastery", "mastery table")
    parser.path("--output", "table to write (Parquet)")
    arguments, _ = parser.read()
    mastery = read_table(arguments.mastery, MASTERY)
    write_table(arguments.output, count_levels(mastery), LEVEL_COUNTS, {"drawable": drawable_digests(mastery)})


if __name__ == "__main__":
    run(main)
