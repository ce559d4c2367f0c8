"""Make the tables of one model from the artefacts of its runs; answers are graded here, and no model is loaded.

    python scripts/tabulate_model.py --grid '{…}' --mastery … --levels … --base-outcomes … --outcomes … --output tables/

The paths of the artefacts say which run they belong to: `runs/RUN/outcomes.parquet`,
`runs/RUN/restored/STRATEGY-REGION-PERCENT.parquet`.
"""

from pydantic import Field

from cli.command_line import CommandLine, quick_imports, run
from knowshift.allowed_values import Dtype
from knowshift.configuration.facts import MatchingRule
from knowshift.configuration.finetuning import Grid
from knowshift.configuration.section import Percent
from knowshift.configuration.tasks import Metric


class Options(MatchingRule):
    """How answers are graded, and which grid and shares the tables show."""

    grid: Grid | None = Field(
        default=None,
        description="Settings of finetuning that say which cells there are, as an object; null where none is trained.",
    )
    tuned: list[str] = Field(default=[], description="Names of the models that were fine-tuned elsewhere.")
    percents: dict[str, list[Percent]] = Field(
        default={},
        description="Percentages of parameters that runs are restored by, for each region; the table of concentration "
        "has them beside the paper's.",
    )
    dtype: Dtype = Field(default="float32", description="Number format that the models answered in.")
    tasks: dict[str, Metric] = Field(default={}, description="Metric of each task, by its name.")


def main() -> None:
    """Read the command line, make the tables and write them."""
    parser = CommandLine(__doc__, Options)
    parser.file("--mastery", "Mastery table.")
    parser.file("--levels", "Level counts.")
    parser.file("--base-outcomes", "The pre-trained model's outcomes.")
    parser.file("--few-shot-outcomes", "Its outcomes after examples.", required=False)
    parser.file("--facts", "Facts tables, for the most frequent training objects.", required=False, many=True)
    parser.file("--instruct-outcomes", "The chat model's outcomes, if it was asked.", required=False, many=True)
    parser.file("--outcomes", "Outcomes of the runs.", required=False, many=True)
    parser.file("--divergences", "Divergence tables of the runs.", required=False, many=True)
    parser.file("--steps", "Training tables of the runs.", required=False, many=True)
    parser.file("--histograms", "Histograms of relative changes (REGION.histogram.parquet).", required=False, many=True)
    parser.file("--restored", "Outcomes of restored models.", required=False, many=True)
    parser.file("--precision", "Outcomes of restored models in further number formats.", required=False, many=True)
    parser.file("--task-outcomes", "Answers to the examples of tasks.", required=False, many=True)
    parser.file("--synonyms", "CSV files of synonyms.", required=False, many=True)
    parser.new_folder("--output", "Directory for the tables (Parquet).")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.analysis.model_tables import ModelFiles, tabulate_model
        from knowshift.analysis.run_schemas import MODEL_TABLES
        from knowshift.analysis.task_answers import grade_tasks
        from knowshift.evaluation.schemas import TASK_ANSWERS
        from knowshift.finetuning.grid import cells, describe, tuned_cells
        from knowshift.finetuning.schemas import CELLS
        from knowshift.mastery.schemas import LEVEL_COUNTS
        from knowshift.runtime.errors import KnowshiftError
        from knowshift.runtime.parquet import read_table, write_table

    planned = cells(**options.grid.model_dump()) if options.grid else []
    elsewhere = tuned_cells(options.tuned)
    order = {cell.run: index for index, cell in enumerate([*planned, *elsewhere])}
    if odd := [path for path in arguments.outcomes or () if path.parent.name not in order]:
        known = ", ".join(order)
        raise KnowshiftError(f"{odd[0]}: its folder is not named like a run of --grid or --tuned, which have {known}")
    files = ModelFiles(
        mastery=arguments.mastery,
        levels=arguments.levels,
        base=arguments.base_outcomes,
        few_shot=arguments.few_shot_outcomes,
        facts=arguments.facts or (),
        instruct=arguments.instruct_outcomes or (),
        outcomes=sorted(arguments.outcomes or (), key=lambda path: order[path.parent.name]),
        divergences=arguments.divergences or (),
        steps=arguments.steps or (),
        histograms=arguments.histograms or (),
        restored=arguments.restored or (),
        precision=arguments.precision or (),
        synonyms=arguments.synonyms or (),
    )
    described = describe(planned, read_table(arguments.levels, LEVEL_COUNTS), elsewhere)
    graded = arguments.output / "answers.parquet"
    how = (options.percents, options.matching, options.dtype)
    made = tabulate_model(files, described, *how, graded, options.writings)
    for name, schema in (MODEL_TABLES | {"mastery": LEVEL_COUNTS, "cells": CELLS}).items():
        write_table(arguments.output / f"{name}.parquet", made[name].replace_schema_metadata(None), schema)
    scored = grade_tasks(arguments.task_outcomes or (), options.tasks)
    write_table(arguments.output / "task_answers.parquet", scored, TASK_ANSWERS)


if __name__ == "__main__":
    run(main)
