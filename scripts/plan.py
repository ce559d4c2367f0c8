"""Say what an experiment will take before anything of it runs: jobs, tokens, bytes on disk, GPU-hours.

    python scripts/plan.py --config configs/paper.yaml
    python scripts/plan.py --config configs/paper.yaml --accelerator a100 --json

Needs no model, no GPU and no download. What has been built already (facts, models, mastery) is counted as it is.
Elsewhere known numbers stand in: those of the paper's models and of EntityQuestions in resources/published/, and all
cells count as feasible.
"""

import json
import signal
from pathlib import Path

from cli.command_line import CommandLine, quick_imports, run
from knowshift.planning.accelerators import ACCELERATORS

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Read the command line, and print the plan."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… | head` is no error
    parser = CommandLine(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, help="Configuration of the experiment (YAML).")
    source.add_argument("--spec", metavar="JSON", help="The configuration as JSON.")
    parser.add_argument(
        "--accelerator", choices=ACCELERATORS, default="h100", help="GPU whose hours are counted (default: h100)."
    )
    parser.add_argument(
        "--parameters",
        type=json.loads,
        default={},
        metavar="JSON",
        help='Numbers of parameters of models that are not there yet, as {"MODEL": 7e9}.',
    )
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    arguments, _ = parser.read()
    with quick_imports():
        from knowshift.configuration import checking
        from knowshift.planning.inventory import Inventory
        from knowshift.planning.plan import make_plan
        from knowshift.planning.presentation import as_json, as_text

    if arguments.spec:
        experiment = checking.check(json.loads(arguments.spec), ROOT)
    else:
        experiment = checking.read(arguments.config, ROOT)
    inventory, accelerator = Inventory(experiment, ROOT), ACCELERATORS[arguments.accelerator]
    models = inventory.models(arguments.parameters)
    result = make_plan(experiment, inventory.topics(), models, accelerator)
    print((as_json if arguments.json else as_text)(result, models, accelerator))


if __name__ == "__main__":
    run(main)
