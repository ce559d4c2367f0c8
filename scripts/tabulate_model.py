"""Make the tables of one model from the artefacts of its cells; outputs are graded here, no model is loaded.

    python scripts/tabulate_model.py --grid '{…}' --mastery … --levels … --base-outcomes … --outcomes … --output tables/

The artefacts' paths say which run they belong to: `runs/RUN/outcomes.parquet`, `runs/RUN/restored/STRATEGY-REGION-PERCENT.parquet`.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from cli.command_line import CommandLine, run
from knowshift.analysis import model_tables as tables
from knowshift.configuration.facts import MatchingRule
from knowshift.configuration.restoration import RestoredShares
from knowshift.evaluation.grading import Grader
from knowshift.evaluation.schemas import ANSWERS, DIVERGENCE, OUTCOMES
from knowshift.facts.matching import Synonyms
from knowshift.finetuning.grid import Cell, cells, describe
from knowshift.finetuning.schemas import CELLS, STEPS
from knowshift.mastery.schemas import LEVEL_COUNTS, MASTERY
from knowshift.restoration.schemas import HISTOGRAM, SELECTION, TENSORS
from knowshift.runtime.parquet import read_table, write_table, write_tables


class Options(MatchingRule, RestoredShares):
    """What of the configuration the tables show."""

    grid: dict[str, Any] = Field(description="Grid of the experiment: methods, data, sizes, seeds and method_data.")


def restored_key(path) -> tuple[str, str, str, float]:
    """(run, strategy, region, percent) of a path `…/RUN/restored/STRATEGY-REGION-PERCENT.*`."""
    strategy, _, rest = path.name.removesuffix(".parquet").removesuffix(".selection").partition("-")
    region, _, percent = rest.rpartition("-")  # a region may have hyphens, as 0-3
    return path.parent.parent.name, strategy, region, float(percent)


def answers_of(key: tuple, graded: list[dict]) -> pa.Table:
    """Graded outcomes of (run, strategy, region, percent) in the schema `ANSWERS`."""
    head = dict(zip(ANSWERS.names, key, strict=False))
    return pa.Table.from_pylist([head | row for row in graded], schema=ANSWERS)


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--mastery", "mastery table")
    parser.path("--levels", "level counts")
    parser.path("--base-outcomes", "the pre-trained model's outcomes")
    for flag, help in {
        "--instruct-outcomes": "the chat model's outcomes, where one is compared with",
        "--outcomes": "outcomes of the runs",
        "--divergences": "divergence tables of the runs",
        "--steps": "training tables of the runs",
        "--histograms": "histograms of relative changes (REGION.histogram.parquet)",
        "--restored": "outcomes of restored models",
    }.items():
        parser.path(flag, help, required=False, many=True)
    parser.path("--synonyms", "CSV files of synonyms", required=False, many=True)
    parser.path("--output", "directory for the tables (Parquet)")
    arguments, options = parser.read()

    facts = {row["fact_id"]: row for row in read_table(arguments.mastery, MASTERY).to_pylist()}
    levels = read_table(arguments.levels, LEVEL_COUNTS)
    grader = Grader(facts, Synonyms.read(arguments.synonyms or ()), options.matching)
    order = {cell.run: place for place, cell in enumerate(cells(**options.grid))}
    outcomes = {
        path.parent.name: path for path in sorted(arguments.outcomes or (), key=lambda path: order[path.parent.name])
    }
    instruct = dict(zip(["instruct"], arguments.instruct_outcomes or (), strict=False))
    sweeps = sorted(arguments.restored or (), key=restored_key)

    def grade(path: Path) -> list[dict]:
        return grader.grade(read_table(path, OUTCOMES))

    base = grade(arguments.base_outcomes)
    accuracies = tables.Accuracies(base)
    restored: list[dict] = []

    def answers() -> Iterator[pa.Table]:
        """All graded answers, counted on the way; one run, or one sweep of shares, is in memory at a time."""
        accuracies.add("base", base)
        yield answers_of(("base", None, None, None), base)
        for name, path in {**instruct, **outcomes}.items():
            rows = grade(path)
            accuracies.add(name, rows)
            yield answers_of((name, None, None, None), rows)
        for (name, *part), paths in groupby(sweeps, lambda path: restored_key(path)[:3]):
            sweep = {restored_key(path)[3]: grade(path) for path in paths}
            restored.extend(tables.restored_rows(name, *part, sweep, grade(outcomes[name])))
            for percent, rows in sweep.items():
                yield answers_of((name, *part, percent), rows)

    write_tables(arguments.output / "answers.parquet", answers(), ANSWERS)
    accuracy, by_level, training = accuracies.tables()

    divergences = {path.parent.name: read_table(path, DIVERGENCE) for path in arguments.divergences or ()}
    updates = {}
    for path in arguments.histograms or ():
        region = path.name.removesuffix(".histogram.parquet")
        tensors = path.with_name(f"{region}.tensors.parquet")
        updates[path.parent.parent.name, region] = (read_table(path, HISTOGRAM), read_table(tensors, TENSORS))
    where = []
    for path in sweeps:
        head = dict(zip(("run", "strategy", "region", "percent"), restored_key(path), strict=True))
        selection = read_table(path.with_name(path.name.replace(".parquet", ".selection.parquet")), SELECTION)
        where += [{**head, **row} for row in tables.restored_by_module(selection)]
    losses = [
        {"run": path.parent.name, **{name: row[name] for name in tables.TRAINING_LOSS.names[1:]}}
        for path in arguments.steps or ()
        for row in read_table(path, STEPS).to_pylist()
    ]

    made = {
        "mastery": (levels, LEVEL_COUNTS),
        "cells": (describe([Cell.parse(name) for name in order], levels), CELLS),
        "accuracy": (accuracy, tables.ACCURACY),
        "accuracy_by_level": (by_level, tables.ACCURACY_BY_LEVEL),
        "training_accuracy": (training, tables.TRAINING_ACCURACY),
        "training_loss": (pa.Table.from_pylist(losses, schema=tables.TRAINING_LOSS), tables.TRAINING_LOSS),
        "divergence": (tables.tabulate_divergence(divergences, by_level), tables.DIVERGENCE_MEANS),
        "concentration": (tables.tabulate_concentration(updates, options.percents), tables.CONCENTRATION),
        "restored": (pa.Table.from_pylist(restored, schema=tables.RESTORED), tables.RESTORED),
        "restored_where": (pa.Table.from_pylist(where, schema=tables.RESTORED_WHERE), tables.RESTORED_WHERE),
    }
    for name, (table, schema) in made.items():
        write_table(arguments.output / f"{name}.parquet", table.replace_schema_metadata(None), schema)


if __name__ == "__main__":
    run(main)
