"""The tables of one model from the artefacts of its runs; all answers are graded here, and no model is loaded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from knowshift.allowed_values import Writing
from knowshift.analysis.answer_matrix import Answerer, read_answers
from knowshift.analysis.baselines import most_frequent_outcomes
from knowshift.analysis.precision import tabulate_precision
from knowshift.analysis.run_schemas import CONCENTRATION, RESTORED_WHERE, TRAINING_LOSS
from knowshift.analysis.run_scores import tabulate_runs
from knowshift.analysis.study import BASE, FEW_SHOT, HELD_OUT, MOST_FREQUENT
from knowshift.evaluation.grading import Grader
from knowshift.evaluation.schemas import ANSWERS, DIVERGENCE, OUTCOMES
from knowshift.facts.matching import Synonyms
from knowshift.facts.schemas import FACTS
from knowshift.mastery.schemas import LEVEL_COUNTS, MASTERY
from knowshift.restoration.concentration import concentration
from knowshift.restoration.schemas import HISTOGRAM, SELECTION, TENSORS
from knowshift.runtime.parquet import read_table, write_tables

PAPER_PERCENTS = (1, 3, 5, 10, 20, 40, 60)  # of parameters, whose concentration the paper publishes


@dataclass(frozen=True)
class ModelFiles:
    """The artefacts of one model; their paths say which run each belongs to.

    Attributes:
        mastery: The mastery table.
        levels: The table of level counts.
        base: The pre-trained model's outcomes.
        few_shot: The pre-trained model's outcomes after examples, perhaps without rows; None: it was not asked so.
        facts: The tables of all facts, whose training facts give the most frequent objects; none leaves these out.
        instruct: The chat model's outcomes; none if no chat model was asked.
        outcomes: `RUN/outcomes.parquet` of the runs, in the order of the grid.
        divergences: `RUN/divergence.parquet` of the runs.
        steps: `RUN/steps.parquet` of the runs.
        histograms: `RUN/changes/REGION.histogram.parquet`, each beside `REGION.tensors.parquet`.
        restored: `RUN/restored/STRATEGY-REGION-PERCENT.parquet`, each beside a table of its selection.
        precision: `RUN/restored-DTYPE/STRATEGY-REGION-PERCENT.parquet`, answered in further number formats.
        synonyms: CSV files of synonyms.
    """

    mastery: Path
    levels: Path
    base: Path
    few_shot: Path | None = None
    facts: Sequence[Path] = ()
    instruct: Sequence[Path] = ()
    outcomes: Sequence[Path] = ()
    divergences: Sequence[Path] = ()
    steps: Sequence[Path] = ()
    histograms: Sequence[Path] = ()
    restored: Sequence[Path] = ()
    precision: Sequence[Path] = ()
    synonyms: Sequence[Path] = ()


def tabulate_model(
    files: ModelFiles,
    cells: pa.Table,
    percents: Mapping[str, Sequence[float]],
    matching: str,
    dtype: str,
    graded: Path,
    writings: Sequence[Writing] = (),
) -> dict[str, pa.Table]:
    """Grade all answers, write them, and make the other tables of the model.

    Args:
        files: The artefacts.
        cells: The cells of the grid, in the schema `CELLS`.
        percents: Region to the shares of its parameters, in percent, that runs are restored by.
        matching: The matching rule that decides which answers are right.
        dtype: The number format that the models answered in.
        graded: Where to write the graded answers, in the schema `ANSWERS`.
        writings: Which ways to write one name count as one.

    Returns:
        Table name to table, without the answers.
    """
    mastery = read_table(files.mastery, MASTERY)
    facts_by_id = {row["fact_id"]: row for row in mastery.to_pylist()}
    grader = Grader(facts_by_id, Synonyms.read(files.synonyms), matching, writings)
    restored = sorted(files.restored, key=restored_model)
    write_tables(graded, _grade_all(files, restored, grader), ANSWERS)
    answers = read_answers(graded, matching, mastery["fact_id"].to_pylist())
    divergences = {path.parent.name: read_table(path, DIVERGENCE) for path in files.divergences}
    concentrations = tabulate_concentration(read_changes(files.histograms), percents)
    arms = {
        (path.parent.name.removeprefix("restored-"), restored_model(path)): grader.grade(read_table(path, OUTCOMES))
        for path in sorted(files.precision)
    }
    facts = {fact: row for row, fact in enumerate(mastery["fact_id"].to_pylist())}
    levels = mastery["level"].to_numpy()
    return {
        "mastery": read_table(files.levels, LEVEL_COUNTS),
        "cells": cells,
        **tabulate_runs(answers, levels, divergences),
        "training_loss": tabulate_training_loss(files.steps),
        "concentration": concentrations,
        "precision": tabulate_precision(answers, arms, dtype, facts, levels, concentrations),
        "restored_where": tabulate_restored_where(restored),
    }


def restored_model(path: Path) -> Answerer:
    """The restored model of a path `…/RUN/restored/STRATEGY-REGION-PERCENT.*`."""
    strategy, _, rest = path.name.removesuffix(".parquet").removesuffix(".selection").partition("-")
    region, _, percent = rest.rpartition("-")  # a region may contain hyphens, such as 0-3
    return Answerer(path.parent.parent.name, strategy, region, float(percent))


def _grade_all(files: ModelFiles, restored: Sequence[Path], grader: Grader) -> Iterator[pa.Table]:
    """Graded answers in the schema `ANSWERS`, one model at a time, so that one is in memory."""
    models = {BASE: files.base}
    if files.few_shot:
        models[FEW_SHOT] = files.few_shot
    models |= {Answerer("instruct"): path for path in files.instruct}
    models |= {Answerer(path.parent.name): path for path in files.outcomes}
    models |= {restored_model(path): path for path in restored}
    for key, path in models.items():
        rows = grader.grade(read_table(path, OUTCOMES))
        yield pa.Table.from_pylist([{**key._asdict(), **row} for row in rows], schema=ANSWERS)
    if files.facts:
        asked = read_table(files.base, OUTCOMES, ["fact_id", "set"])
        held_out = [row for row in zip(*(column.to_pylist() for column in asked), strict=True) if row[1] in HELD_OUT]
        facts = pa.concat_tables(read_table(path, FACTS).replace_schema_metadata(None) for path in files.facts)
        rows = grader.grade(most_frequent_outcomes(facts, held_out))
        yield pa.Table.from_pylist([{**MOST_FREQUENT._asdict(), **row} for row in rows], schema=ANSWERS)


def tabulate_training_loss(paths: Sequence[Path]) -> pa.Table:
    """The loss of every optimizer step of every run, in the schema `TRAINING_LOSS`.

    Args:
        paths: `RUN/steps.parquet` of the runs.
    """
    columns = TRAINING_LOSS.names[1:]
    rows = [
        {"run": path.parent.name, **row}
        for path in paths
        for row in read_table(path, TRAINING_LOSS, columns).to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=TRAINING_LOSS)


class Changes(NamedTuple):
    """The relative changes of one region in one run: a histogram and statistics per tensor."""

    histogram: pa.Table
    tensors: pa.Table


def read_changes(paths: Sequence[Path]) -> dict[tuple[str, str], Changes]:
    """Read relative changes: (run, region) to its tables in the schemas `HISTOGRAM` and `TENSORS`.

    Args:
        paths: `RUN/changes/REGION.histogram.parquet`, each beside `REGION.tensors.parquet`.
    """
    found = {}
    for path in paths:
        region = path.name.removesuffix(".histogram.parquet")
        tensors = read_table(path.with_name(f"{region}.tensors.parquet"), TENSORS)
        found[path.parent.parent.name, region] = Changes(read_table(path, HISTOGRAM), tensors)
    return found


def tabulate_concentration(
    changes: Mapping[tuple[str, str], Changes], percents: Mapping[str, Sequence[float]]
) -> pa.Table:
    """The share of the summed relative change that the most changed parameters hold, in the schema `CONCENTRATION`.

    Every region has the paper's shares of parameters, and those that its runs are restored by; nothing and everything
    are left out, whose shares are known.

    Args:
        changes: (run, region) to its relative changes.
        percents: Region to the shares of its parameters, in percent, that runs are restored by.
    """
    rows = []
    for (run, region), (histogram, tensors) in changes.items():
        columns = {name: histogram[name].to_numpy() for name in histogram.column_names}
        count, seen = columns["count"], columns["visible_bfloat16"]
        unchanged = sum(tensors["unchanged"].to_pylist())
        changed = np.where(columns["bin"] == 0, count - unchanged, count)  # a bin of 0 may hold the tiniest changes

        def held(prefix: str, of: str, percent: float, columns: dict[str, np.ndarray] = columns) -> float:
            """The share of a sum that the most changed parameters hold, exact zeros left out."""
            counts, sums = columns[f"{prefix}count"], columns[f"{prefix}{of}"]
            if not prefix:
                counts, sums = counts - columns["zero_count"], sums - columns[f"zero_{of}"]
            return concentration(counts, sums, percent)

        for percent in sorted({*PAPER_PERCENTS, *percents.get(region, ())} - {0, 100}):
            rows.append(
                {
                    "run": run,
                    "region": region,
                    "percent": percent,
                    "share": concentration(count, columns["sum"], percent),
                    "share_without_zeros": held("", "sum", percent),
                    "null_share": held("null_", "sum", percent),
                    "share_of_absolute": held("", "absolute", percent),
                    "null_share_of_absolute": held("null_", "absolute", percent),
                    "share_of_squares": held("", "squares", percent),
                    "null_share_of_squares": held("null_", "squares", percent),
                    "changes_undone": concentration(count, changed, percent),
                    "changes_undone_bfloat16": concentration(count, seen, percent),
                    "visible_bfloat16": float(seen.sum() / max(changed.sum(), 1)),
                    "parameters": int(count.sum()),
                    "zero_before": int(columns["zero_count"].sum()),
                    "unchanged": unchanged,
                }
            )
    return pa.Table.from_pylist(rows, schema=CONCENTRATION)


def tabulate_restored_where(paths: Sequence[Path]) -> pa.Table:
    """How many parameters of each layer and module were restored, in the schema `RESTORED_WHERE`.

    Args:
        paths: `RUN/restored/STRATEGY-REGION-PERCENT.parquet`; the table of the selection lies beside each.
    """
    rows = []
    for path in paths:
        selection = read_table(path.with_name(path.name.replace(".parquet", ".selection.parquet")), SELECTION)
        rows += [{**restored_model(path)._asdict(), **row} for row in _by_module(selection)]
    return pa.Table.from_pylist(rows, schema=RESTORED_WHERE)


def _by_module(selection: pa.Table) -> list[dict]:
    """The sums of a selection over the tensors of each layer and module, in the order of the tensors."""
    summed = ("parameters", "restored", "restored_unchanged", "restored_sum", "sum")
    totals: dict[tuple, dict] = {}
    for row in selection.to_pylist():
        key = (row["layer"], row["module"])
        total = totals.setdefault(key, {"layer": key[0], "module": key[1], **dict.fromkeys(summed, 0)})
        for name in summed:
            total[name] += row[name]
    return list(totals.values())
