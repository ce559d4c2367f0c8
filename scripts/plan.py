"""Say what an experiment will take before anything of it runs: jobs, tokens, bytes on disk, GPU-hours.

    python scripts/plan.py --config configs/paper.yaml
    python scripts/plan.py --config configs/paper.yaml --accelerator a100 --json

Needs no model, no GPU and no download. What has been built already (facts, models, mastery) is counted as it is. Elsewhere known
numbers stand in: those of the paper's models and of EntityQuestions in resources/published/, and all cells count as feasible.
"""

import argparse
import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

from cli.command_line import CommandLine, run

import yaml

from knowshift.configuration import checking
from knowshift.planning.accelerators import (
    ACCELERATORS,
    BANDWIDTH_SHARE,
    COMPUTE_SHARE,
    READ_RATE,
    START_SECONDS,
    Accelerator,
)
from knowshift.planning.inventory import Inventory
from knowshift.planning.plan import Plan, make_plan
from knowshift.planning.planned_model import ModelSize
from knowshift.runtime.errors import KnowshiftError

ROOT = Path(__file__).parents[1]


def read_experiment(arguments: argparse.Namespace) -> Any:
    """The checked configuration.

    Raises:
        KnowshiftError: it cannot be read, or something is wrong with it.
    """
    if arguments.spec:
        return checking.check(json.loads(arguments.spec), ROOT)
    try:
        raw = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KnowshiftError(f"{arguments.config} does not exist; it should be a configuration") from None
    except yaml.YAMLError as error:
        raise KnowshiftError(f"{arguments.config}: not valid YAML ({str(error).splitlines()[0]})") from None
    return checking.check(raw, ROOT)


def short(number: float) -> str:
    """A number with a unit: 1.23 M."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:,.3g}{unit}" if number < 1000 * size else f"{number / size:,.0f}{unit}"
    return f"{number:,.3g}" if number else ""


def table(head: list[str], rows: list[list[str]], texts: int) -> str:
    """Columns of equal width, the first `texts` of them flush left."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if n < texts else cell.rjust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in [head, *rows]
    ]  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)


def as_text(result: Plan, models: dict[str, ModelSize], accelerator: Accelerator) -> str:
    """The plan for people, largest items first."""
    head = ["GPU work", "model", "jobs", "GPUs each", "sequences", "tokens read", "tokens written", "GPU-hours"]
    rows = [
        [
            work.rule,
            work.model,
            f"{work.jobs:,}",
            str(work.gpus),
            *map(short, (work.completions, work.read, work.written)),
            f"{work.hours:,.1f}",
        ]
        for work in result.work
    ]
    hours = sum(work.hours for work in result.work)
    rows.append(["total", "", f"{sum(work.jobs for work in result.work):,}", "", *totals(result), f"{hours:,.1f}"])
    jobs = [[rule, f"{count:,}"] for rule, count in result.jobs.most_common() if count]
    disk = [[what, f"{short(size)}B"] for what, size in result.disk.most_common() if size]
    end = sum(result.disk.values())
    disk += [["at the end", f"{short(end)}B"], ["at peak", f"{short(end + result.temporary)}B"]]
    known = ", ".join(f"{name} {short(model.parameters)}" for name, model in models.items())
    notes = [
        f"GPU: {accelerator.name}. Parameters: {known}.",
        f"Assumed: {COMPUTE_SHARE:.0%} of peak arithmetic, {BANDWIDTH_SHARE:.0%} of peak bandwidth, {START_SECONDS:.0f} s and"
        f" weights at {READ_RATE / 1e9:g} GB/s before a job computes (scripts/knowshift/planning/accelerators.py has the formulas).",
        "Peak: one fine-tuning of the largest model beside all that stays; for n at once add n - 1 times"
        f" {short(result.temporary)}B.",
    ]
    if result.levels_unknown:
        notes.append(
            f"Levels not known: {', '.join(result.levels_unknown)}. All cells count as feasible, levels as equally large."
        )
    cells = f"{result.cells:,} fine-tuned model{'' if result.cells == 1 else 's'}" + (
        f" ({result.infeasible:,} more have too few facts)" if result.infeasible else ""
    )
    parts = [cells, table(head, rows, 2), table(["rule", "jobs"], [*jobs, ["total", f"{result.jobs.total():,}"]], 1),
             table(["on disk", "bytes"], disk, 1), "\n".join(notes)]  # fmt: skip
    return "\n\n".join(parts)


def totals(result: Plan) -> list[str]:
    return [short(sum(getattr(work, name) for work in result.work)) for name in ("completions", "read", "written")]


def as_json(result: Plan, models: dict[str, ModelSize], accelerator: Accelerator) -> str:
    """The plan for machines; bytes and tokens as whole numbers."""
    end = round(sum(result.disk.values()))
    content = {
        "accelerator": accelerator.name,
        "parameters": {name: model.parameters for name, model in models.items()},
        "cells": result.cells,
        "infeasible": result.infeasible,
        "levels_not_known": result.levels_unknown,
        "jobs": {rule: count for rule, count in result.jobs.items() if count},
        "work": [dataclasses.asdict(work) for work in result.work],
        "gpu_hours": sum(work.hours for work in result.work),
        "disk": {what: round(size) for what, size in result.disk.items()},
        "bytes_at_end": end,
        "bytes_at_peak": end + round(result.temporary),
    }
    return json.dumps(content, indent=1)


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… | head` is no error
    parser = CommandLine(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, help="configuration of the experiment (YAML)")
    source.add_argument("--spec", metavar="JSON", help="the same as JSON")
    parser.add_argument("--accelerator", choices=ACCELERATORS, default="h100", help="GPU that hours are counted of (default: h100)")  # fmt: skip
    parser.add_argument("--parameters", type=json.loads, default={}, metavar="JSON", help='parameters of models that are not there yet, as {"MODEL": 7e9}')  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments, _ = parser.read()
    experiment, accelerator = read_experiment(arguments), ACCELERATORS[arguments.accelerator]
    inventory = Inventory(experiment, ROOT)
    models = inventory.models(arguments.parameters)
    result = make_plan(experiment, inventory.topics(), models, accelerator)
    print((as_json if arguments.json else as_text)(result, models, accelerator))


if __name__ == "__main__":
    run(main)
