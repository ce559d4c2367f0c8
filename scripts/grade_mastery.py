"""Match completions against objects: the mastery R and the level of every probed fact.

    python scripts/grade_mastery.py --facts facts/*.parquet --completions completions/*.parquet \
        --synonyms resources/synonyms.csv --output mastery.parquet
"""

from dataclasses import dataclass

from cli.command_line import CommandLine, option, run

import pyarrow as pa
import pyarrow.compute as pc

from knowshift.allowed_values import Matching
from knowshift.facts.matching import Synonyms
from knowshift.facts.schemas import FACTS
from knowshift.mastery.levels import grade
from knowshift.mastery.schemas import COMPLETIONS, MASTERY
from knowshift.runtime.parquet import read_table, table_metadata, write_table
from knowshift.runtime.progress import progress


@dataclass(frozen=True)
class Options:
    matching: Matching = option("when a text contains an object; substring is the paper's", "whole_words")
    boundaries: list = option("mastery at which levels 1, 2 and 3 end", [0.25, 0.5, 0.75])


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--facts", "facts tables", many=True)
    parser.path("--completions", "completions tables", many=True)
    parser.path("--synonyms", "CSV files of synonyms", required=False, many=True)
    parser.path("--output", "mastery table to write (Parquet)")
    arguments, options = parser.read()

    facts = pa.concat_tables(read_table(path, FACTS).replace_schema_metadata(None) for path in arguments.facts)
    synonyms = Synonyms.read(arguments.synonyms or ())
    graded = []
    for path in progress(arguments.completions, what="grading", unit="units"):
        completions = read_table(path, COMPLETIONS)
        templates = table_metadata(completions)["templates"]
        probed = facts.filter(pc.is_in(facts["fact_id"], pc.unique(completions["fact_id"])))
        graded.append(grade(probed, completions, templates, synonyms, options.matching, options.boundaries))
    write_table(arguments.output, pa.concat_tables(graded), MASTERY, {"matching": options.matching})


if __name__ == "__main__":
    run(main)
