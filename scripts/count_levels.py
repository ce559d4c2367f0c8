"""Count the facts of every mastery level, per domain, topic and split.

    python scripts/count_levels.py --mastery mastery.parquet --output levels.parquet

The table's metadata hold a digest of the facts that each data kind may draw.
"""

from cli.command_line import CommandLine, quick_imports, run


def main() -> None:
    """Read the command line, count, and write the table."""
    parser = CommandLine(__doc__)
    parser.file("--mastery", "Mastery table (Parquet).")
    parser.new_file("--output", "Table to write (Parquet).")
    arguments, _ = parser.read()
    with quick_imports():
        from knowshift.finetuning.orders import drawable_digests
        from knowshift.mastery.levels import count_levels
        from knowshift.mastery.schemas import LEVEL_COUNTS, MASTERY
        from knowshift.runtime.parquet import read_table, write_table

    mastery = read_table(arguments.mastery, MASTERY)
    write_table(arguments.output, count_levels(mastery), LEVEL_COUNTS, {"drawable": drawable_digests(mastery)})


if __name__ == "__main__":
    run(main)
