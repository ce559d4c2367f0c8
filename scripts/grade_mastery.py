"""Match completions against objects: the mastery R and the level of every probed fact.

    python scripts/grade_mastery.py --facts facts/*.parquet --completions completions/*.parquet \
        --synonyms resources/synonyms.csv --output mastery.parquet
"""

from dataclasses import dataclass

import pyarrow as pa

from command_line import CommandLine, option, run
from knowshift.artifacts import read_table, table_metadata, write_table
from knowshift.completions import COMPLETIONS
from knowshift.errors import KnowshiftError
from knowshift.facts import FACTS
from knowshift.mastery import MASTERY, grade
from knowshift.matching import Synonyms


@dataclass(frozen=True)
class Options:
    matching: str = option("whole_words, or substring (the paper's)", "whole_words")
    boundaries: list = option("mastery at which levels 1, 2 and 3 end", [0.25, 0.5, 0.75])


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--facts", "facts tables", many=True)
    parser.path("--completions", "completions tables", many=True)
    parser.path("--synonyms", "CSV files of synonyms", required=False, many=True)
    parser.path("--output", "mastery table to write (Parquet)")
    arguments, options = parser.read()

    facts = pa.concat_tables(read_table(path, FACTS) for path in arguments.facts)
    tables = [read_table(path, COMPLETIONS) for path in arguments.completions]
    used = {table_metadata(table)["templates"] for table in tables}
    if len(used) != 1:
        raise KnowshiftError(f"the completions were made with different numbers of templates: {sorted(used)}")
    synonyms = Synonyms.read(arguments.synonyms or ())
    completions = pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
    table = grade(
        facts.replace_schema_metadata(None), completions, *used, synonyms, options.matching, options.boundaries
    )
    write_table(arguments.output, table, MASTERY, {"matching": options.matching})


if __name__ == "__main__":
    run(main)
