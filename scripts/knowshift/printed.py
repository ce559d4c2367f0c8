"""The report's tables, from the tables of numbers; every one is printed, and says so where it has nothing to show."""

from collections.abc import Callable, Mapping

import pandas as pd

from knowshift import printed_parameters, printed_scores, printed_summary
from knowshift.printing import Printed

Tables = Mapping[str, pd.DataFrame]

# In the order of the report.
PRINTERS: dict[str, Callable[[Tables], Printed]] = {
    "mastery_levels": printed_summary.mastery_levels,
    "mastery_topics": printed_summary.mastery_topics,
    "accuracy": printed_scores.accuracy,
    "accuracy_levels": printed_scores.accuracy_levels,
    "strategies": printed_scores.strategies,
    "level4_and_kl": printed_scores.level4_and_kl,
    "correlation": printed_scores.correlation,
    "calibration": printed_scores.calibration,
    "concentration": printed_parameters.concentration,
    "restored": printed_parameters.restored,
    "restored_training": printed_parameters.restored_training,
    "restored_by_layer": printed_parameters.restored_by_layer,
    "restored_by_module": printed_parameters.restored_by_module,
    "restored_blocks": printed_parameters.restored_blocks,
    "claims": printed_summary.claims,
    "recommendation": printed_summary.recommendation,
    "costs": printed_summary.costs,
}


def printed(tables: Tables) -> list[Printed]:
    """Every table of the report; with several models, the model is the first column.

    Args:
        tables: by name, joined over models.
    """
    return [printer(tables) for printer in PRINTERS.values()]
