"""Writes how long an experiment takes on this machine, and how that compares with a run that is finished."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from knowshift.planning.local_time import Stage, wall_seconds
from knowshift.planning.machine_speed import MachineSpeed
from knowshift.planning.presentation import table


def local_text(stages: Sequence[Stage], at_once: int, speed: MachineSpeed, processor: str) -> str:
    """Write the minutes of every stage, the longest first, and of the whole.

    Args:
        stages: the stages.
        at_once: jobs that run at once.
        speed: what one of them can do.
        processor: name of the processor.
    """
    ordered = sorted(stages, key=lambda stage: -stage.jobs * stage.seconds)
    shown = [stage for stage in ordered if stage.jobs * stage.seconds >= 5]
    rest = [stage for stage in ordered if stage not in shown]
    rows = [_row(stage.rule, stage.jobs, stage.jobs * stage.seconds) for stage in shown]
    if rest:
        rows.append(_row("all others", sum(stage.jobs for stage in rest), sum(s.jobs * s.seconds for s in rest)))
    work = sum(stage.jobs * stage.seconds for stage in stages)
    rows.append(_row("together", sum(stage.jobs for stage in stages), work))
    whole = duration(wall_seconds(list(stages), at_once))
    figures = (
        f"{speed.products['float32'] / 1e9:.0f} GFLOP/s in float32 and {speed.products['bfloat16'] / 1e9:.0f} in"
        f" bfloat16, {speed.copied / 1e9:.1f} GB/s, {speed.start:.1f} s to start"
    )
    return "\n".join(
        [
            f"On this machine, from the first job to the last: about {whole}, with {at_once} jobs at once.",
            "",
            table(["on this machine", "jobs", "s each", "minutes of all"], rows, 1),
            "",
            f"Measured of {processor}, for each of {at_once} jobs: {figures}.",
            "It is meant for a machine that does nothing else. Downloads are not counted.",
        ]
    )


def duration(seconds: float) -> str:
    """Write a duration in minutes, or in hours from 100 minutes on, or in days from 100 hours on."""
    if seconds < 6000:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360000 else f"{seconds / 86400:.0f} days"


def measured_seconds(folder: Path) -> dict[str, list[float]]:
    """Read the seconds of every job from the benchmark files of a run, by rule.

    Args:
        folder: RESULTS/benchmarks.
    """
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*/*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if rows:
            found.setdefault(path.parent.name, []).append(float(rows[-1]["s"]))
    return found


def comparison(stages: Sequence[Stage], measured: Mapping[str, Sequence[float]]) -> str:
    """Write planned beside measured seconds, for each rule that was measured, and their ratio."""
    rows, planned_work, measured_work = [], 0.0, 0.0
    for stage in sorted(stages, key=lambda stage: -stage.jobs * stage.seconds):
        if seconds := measured.get(stage.rule):
            mean = sum(seconds) / len(seconds)
            rows.append([stage.rule, str(len(seconds)), f"{stage.seconds:.1f}", f"{mean:.1f}"])
            rows[-1].append(f"{stage.seconds / mean:.2f}" if mean else "")
            planned_work += stage.seconds * len(seconds)
            measured_work += sum(seconds)
    ratio = f"{planned_work / measured_work:.2f}" if measured_work else ""
    rows.append(["together", "", f"{planned_work:.0f}", f"{measured_work:.0f}", ratio])
    return table(["rule", "jobs measured", "planned s", "measured s", "planned / measured"], rows, 1)


def _row(name: str, jobs: int, seconds: float) -> list[str]:
    return [name, f"{jobs:,}", f"{seconds / max(1, jobs):.1f}", f"{seconds / 60:.1f}"]
