r"""Match completions against objects: the mastery R and the level of every probed fact.

    python scripts/grade_mastery.py --facts facts/*.parquet --completions completions/*.parquet \
        --synonyms resources/synonyms.csv --output mastery.parquet
"""

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.facts import MatchingRule
from knowshift.configuration.mastery import LevelBoundaries, LevelSource


class Options(LevelBoundaries, LevelSource, MatchingRule):
    """How completions are matched, and which levels follow."""


def main() -> None:
    """Read the command line, grade, and write the table."""
    parser = CommandLine(__doc__, Options)
    parser.file("--facts", "Facts tables (Parquet).", many=True)
    parser.file("--completions", "Completions tables (Parquet).", many=True)
    parser.file("--synonyms", "CSV files with other names of objects.", required=False, many=True)
    parser.new_file("--output", "Mastery table to write (Parquet).")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.facts.matching import Synonyms
        from knowshift.mastery.files import grade_files
        from knowshift.mastery.schemas import MASTERY
        from knowshift.runtime.parquet import write_table

    synonyms = Synonyms.read(arguments.synonyms or ())
    how = (synonyms, options.matching, options.boundaries, options.levels_from, options.writings)
    graded = grade_files(arguments.facts, arguments.completions, *how)
    write_table(arguments.output, graded, MASTERY, {"matching": options.matching})


if __name__ == "__main__":
    run(main)
