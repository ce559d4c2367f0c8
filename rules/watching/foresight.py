"""What is planned per rule before a run starts: how many jobs, and about how long each takes."""

from pathlib import Path
from typing import Any

from knowshift.runtime.errors import KnowshiftError
from watching.run_state import Foreseen


def foresee(experiment: Any, root: Path) -> dict[str, Foreseen]:
    """Plan an experiment per rule; empty where the sizes of its facts or models are not known.

    It is empty too where jobs run in conda environments and this Python has no torch, whose version names a speed.

    The seconds are those of this machine if it was measured (`make plan`), else of a typical one. What counts is their
    ratio from rule to rule: a run corrects them by the jobs that it has finished.

    Args:
        experiment: the checked configuration.
        root: the project's folder.
    """
    try:
        from knowshift.planning.accelerators import ACCELERATORS
        from knowshift.planning.inventory import Inventory
        from knowshift.planning.local_time import local_stages
        from knowshift.planning.machine_speed import stored_speed
        from knowshift.planning.plan import make_plan

        inventory = Inventory(experiment, root)
        topics, models = inventory.topics(), inventory.models({})
        plan = make_plan(experiment, topics, models, ACCELERATORS["h100"])
        stages = local_stages(experiment, topics, models, stored_speed())
    except (KnowshiftError, OSError, ImportError):
        return {}
    seconds = {stage.rule: stage.seconds for stage in stages}
    return {rule: Foreseen(jobs, seconds.get(rule, 1.0)) for rule, jobs in plan.jobs.items() if jobs}
