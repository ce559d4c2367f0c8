"""Say what an experiment will take before anything of it runs: jobs, tokens, bytes on disk, GPU-hours, minutes here.

    python scripts/plan.py --config configs/paper.yaml
    python scripts/plan.py --config configs/paper.yaml --accelerator a100 --json
    python scripts/plan.py --config config.yaml --compare results/benchmarks

Needs no model, no GPU and no download. What has been built already (facts, models, mastery) is counted as it is.
Elsewhere known numbers stand in: those of the paper's models and of EntityQuestions in resources/published/, and all
cells count as feasible. Where there is no GPU, this machine is measured for a few seconds, once, and the plan says how
long the experiment takes on it.
"""

import os
import shutil
import signal
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cli.command_line import CommandLine, quick_imports, run
from cli.execution import MOST_THREADS
from knowshift.configuration import checking
from knowshift.configuration.consent import check_size
from knowshift.configuration.section import Section
from knowshift.planning.accelerators import ACCELERATORS

ROOT = Path(__file__).parents[1]


class Planning(Section):
    """What the plan is told about machines and models."""

    parameters: dict[str, Annotated[float, Field(gt=0, le=1e15)]] = Field(
        default={}, description='Numbers of parameters of models that are not there yet, as {"MODEL": 7e9}.'
    )
    at_once: Annotated[int, Field(ge=0, le=MOST_THREADS)] | None = Field(
        default=None,
        description="Jobs that run at once on this machine, whose time is told; 0 tells none; null takes its cores, or "
        "0 where there is a GPU.",
    )


def main() -> None:
    """Read the command line, and print the plan."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… | head` is no error
    parser = CommandLine(__doc__)
    parser.file("--config", "Configuration of the experiment (YAML).", required=False)
    parser.add_argument("--spec", metavar="JSON", help="The configuration as JSON.")
    parser.exactly_one("--config", "--spec")
    parser.add_argument(
        "--accelerator", choices=ACCELERATORS, default="h100", help="GPU whose hours are counted (default: h100)."
    )
    parser.plain(Planning)
    parser.folder("--compare", "Compare with the benchmark files of a run (RESULTS/benchmarks).", required=False)
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    arguments, _ = parser.read()
    raw = parser.read_json("--spec", arguments.spec) if arguments.spec is not None else None
    experiment = checking.read(arguments.config, ROOT) if arguments.config else checking.check(raw, ROOT)
    check_size(experiment, models_only=True)
    if unknown := sorted(set(arguments.parameters) - set(experiment.models)):
        parser.error(f"--parameters: {unknown[0]} is not among models, which has {', '.join(experiment.models)}")
    with quick_imports():
        from knowshift.planning.inventory import Inventory
        from knowshift.planning.local_presentation import comparison, local_text, measured_seconds
        from knowshift.planning.local_time import local_stages, wall_seconds
        from knowshift.planning.machine_speed import machine_speed, processor
        from knowshift.planning.plan import make_plan
        from knowshift.planning.presentation import as_json, as_text

    inventory, accelerator = Inventory(experiment, ROOT), ACCELERATORS[arguments.accelerator]
    topics, models = inventory.topics(), inventory.models(arguments.parameters)
    at_once = default_at_once() if arguments.at_once is None else arguments.at_once
    if arguments.compare:
        speed = machine_speed(at_once or cores())
        print(comparison(local_stages(experiment, topics, models, speed), measured_seconds(arguments.compare)))
        return
    result = make_plan(experiment, topics, models, accelerator)
    here, minutes = "", None
    if at_once:
        speed = machine_speed(at_once)
        stages = local_stages(experiment, topics, models, speed)
        minutes = wall_seconds(stages, at_once) / 60
        here = "\n\n" + local_text(stages, at_once, speed, processor())
    print(
        as_json(result, models, accelerator, minutes) if arguments.json else as_text(result, models, accelerator) + here
    )


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_at_once() -> int:
    """Return how many jobs run at once here; 0 where there is a GPU."""
    return 0 if shutil.which("nvidia-smi") else cores()


if __name__ == "__main__":
    run(main)
