"""Make the tables of one model from the artefacts of its runs; answers are graded here, and no model is loaded.

    python scripts/tabulate_model.py --grid '{…}' --mastery … --levels … --base-outcomes … --outcomes … --output tables/

The paths of the artefacts say which run they belong to: `runs/RUN/outcomes.parquet`,
`runs/RUN/restored/STRATEGY-REGION-PERCENT.parquet`.
"""

from dataclasses import dataclass

from cli.command_line import CommandLine, option, run

from knowshift.allowed_values import Matching
from knowshift.analysis.model_tables import ModelFiles, tabulate_model
from knowshift.analysis.run_schemas import MODEL_TABLES
from knowshift.finetuning.grid import cells, describe
from knowshift.finetuning.schemas import CELLS
from knowshift.mastery.schemas import LEVEL_COUNTS
from knowshift.runtime.parquet import read_table, write_table


@dataclass(frozen=True)
class Options:
    """Options that change the result."""

    grid: dict = option("methods, data, sizes, seeds, as JSON")
    percents: dict = option(
        "region to the shares of its parameters, in percent, that runs are restored by; the table of concentration has"
        " them beside the paper's",
        {},
    )
    matching: Matching = option("when a text contains an object; substring is the paper's", "whole_words")


def main() -> None:
    """Read the command line, make the tables and write them."""
    parser = CommandLine(__doc__, Options)
    parser.path("--mastery", "mastery table")
    parser.path("--levels", "level counts")
    parser.path("--base-outcomes", "the pre-trained model's outcomes")
    parser.path("--instruct-outcomes", "the chat model's outcomes, if it was asked", required=False, many=True)
    parser.path("--outcomes", "outcomes of the runs", required=False, many=True)
    parser.path("--divergences", "divergence tables of the runs", required=False, many=True)
    parser.path("--steps", "training tables of the runs", required=False, many=True)
    parser.path("--histograms", "histograms of relative changes (REGION.histogram.parquet)", required=False, many=True)
    parser.path("--restored", "outcomes of restored models", required=False, many=True)
    parser.path("--synonyms", "CSV files of synonyms", required=False, many=True)
    parser.path("--output", "directory for the tables (Parquet)")
    arguments, options = parser.read()
    planned = cells(**options.grid)
    order = {cell.run: index for index, cell in enumerate(planned)}
    files = ModelFiles(
        mastery=arguments.mastery,
        levels=arguments.levels,
        base=arguments.base_outcomes,
        instruct=arguments.instruct_outcomes or (),
        outcomes=sorted(arguments.outcomes or (), key=lambda path: order[path.parent.name]),
        divergences=arguments.divergences or (),
        steps=arguments.steps or (),
        histograms=arguments.histograms or (),
        restored=arguments.restored or (),
        synonyms=arguments.synonyms or (),
    )
    described = describe(planned, read_table(arguments.levels, LEVEL_COUNTS))
    graded = arguments.output / "answers.parquet"
    made = tabulate_model(files, described, options.percents, options.matching, graded)
    for name, schema in (MODEL_TABLES | {"mastery": LEVEL_COUNTS, "cells": CELLS}).items():
        write_table(arguments.output / f"{name}.parquet", made[name].replace_schema_metadata(None), schema)


if __name__ == "__main__":
    run(main)
