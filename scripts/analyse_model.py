r"""Compute the statistics of one model: intervals, tests, flows, confidence, verdicts on the claims, a recommendation.

    python scripts/analyse_model.py --tables results/NAME/tables --mastery results/NAME/mastery.parquet \
        --divergences results/NAME/runs/*/divergence.parquet --orders results/NAME/orders/*.parquet \
        --folder results/NAME --output results/NAME/analysis

It reads graded answers and tables; no model is loaded. docs/report.md explains every number.
"""

from pydantic import Field

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.facts import MatchingRule
from knowshift.configuration.section import Seeded
from knowshift.configuration.tasks import Judged


class Options(MatchingRule, Seeded):
    """How answers are graded, and how estimates are drawn."""

    facts: int = Field(default=2000, gt=0, description="Number of facts per run whose outputs are kept.")
    tasks: dict[str, Judged] = Field(
        default={}, description="Metric and tolerance of each task that models have to go on doing, by its name."
    )
    trainings: dict[str, str] = Field(
        default={}, description="Methods beside full, each with the setting that it changes, or lora."
    )


def main() -> None:
    """Read the command line, analyse the model and write the tables."""
    parser = CommandLine(__doc__, Options)
    parser.folder("--tables", "Directory of the model's tables (Parquet).")
    parser.file("--mastery", "Mastery table.")
    parser.file("--divergences", "Divergence tables of the runs.", required=False, many=True)
    parser.file("--orders", "Orders of training facts (DATA-sSEED.parquet).", required=False, many=True)
    parser.add_argument(
        "--folder", required=True, help="The model's folder of results, as the command that exports a model names it."
    )
    parser.new_folder("--output", "Directory for the tables (Parquet).")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.analysis.model_analysis import analyse_model
        from knowshift.analysis.schemas import ANALYSES
        from knowshift.finetuning.schemas import CELLS
        from knowshift.runtime.parquet import read_table, write_table

    cells = read_table(arguments.tables / "cells.parquet", CELLS)
    paths = (arguments.mastery, arguments.divergences or (), arguments.orders or (), arguments.folder)
    made = analyse_model(arguments.tables, cells, *paths, **options.model_dump())
    for name, schema in ANALYSES.items():
        write_table(arguments.output / f"{name}.parquet", made[name], schema)


if __name__ == "__main__":
    run(main)
