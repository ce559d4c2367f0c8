"""Writes a plan as text for people and as JSON for machines."""

import dataclasses
import json
from collections.abc import Mapping, Sequence

from knowshift.planning.accelerators import BANDWIDTH_SHARE, COMPUTE_SHARE, READ_RATE, START_SECONDS, Accelerator
from knowshift.planning.plan import Plan
from knowshift.planning.planned_model import ModelSize


def short(number: float) -> str:
    """Write a number with three digits and a prefix: 1.23 M."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:,.3g}{unit}" if number < 1000 * size else f"{number / size:,.0f}{unit}"
    return f"{number:,.3g}" if number else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """Lay out columns as wide as their widest cell, the first `texts` of them flush left and the others flush right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = zip(row, widths, strict=True)
        padded = [
            cell.ljust(width) if column < texts else cell.rjust(width) for column, (cell, width) in enumerate(cells)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def as_text(result: Plan, models: Mapping[str, ModelSize], accelerator: Accelerator) -> str:
    """Write a plan for people, the largest items first."""
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
        f"Assumed: {COMPUTE_SHARE:.0%} of peak arithmetic, {BANDWIDTH_SHARE:.0%} of peak bandwidth,"
        f" {START_SECONDS:.0f} s and weights at {READ_RATE / 1e9:g} GB/s before a job computes"
        " (scripts/knowshift/planning/accelerators.py has the formulas).",
        "Peak: one fine-tuning of the largest model beside all that stays; for n at once add n - 1 times"
        f" {short(result.temporary)}B.",
    ]
    if result.levels_unknown:
        notes.append(
            f"Levels not known: {', '.join(result.levels_unknown)}. All cells count as feasible, levels as equally "
            f"large."
        )
    cells = f"{result.cells:,} fine-tuned model{'' if result.cells == 1 else 's'}" + (
        f" ({result.infeasible:,} more have too few facts)" if result.infeasible else ""
    )
    parts = [
        cells,
        table(head, rows, 2),
        table(["rule", "jobs"], [*jobs, ["total", f"{result.jobs.total():,}"]], 1),
        table(["on disk", "bytes"], disk, 1),
        "\n".join(notes),
    ]
    return "\n\n".join(parts)


def totals(result: Plan) -> list[str]:
    """Sum up sequences, tokens read and tokens written over all GPU work."""
    return [short(sum(getattr(work, name) for work in result.work)) for name in ("completions", "read", "written")]


def as_json(
    result: Plan, models: Mapping[str, ModelSize], accelerator: Accelerator, minutes: float | None = None
) -> str:
    """Write a plan for machines, with bytes and tokens as whole numbers, and the minutes on this machine if given."""
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
        **({} if minutes is None else {"minutes_here": minutes}),
    }
    return json.dumps(content, indent=1)
