"""The report's tables, from the tables of numbers; every one is printed, and says so where it has nothing to show."""

from collections.abc import Callable, Mapping

import pandas as pd

from knowshift.report.tables import parameters, scores, summary
from knowshift.report.tables.layout import Printed

Tables = Mapping[str, pd.DataFrame]

# In the order of the report.
PRINTERS: dict[str, Callable[[Tables], Printed]] = {
    "mastery_levels": summary.mastery_levels,
    "mastery_topics": summary.mastery_topics,
    "accuracy": scores.accuracy,
    "accuracy_levels": scores.accuracy_levels,
    "strategies": scores.strategies,
    "level4_and_kl": scores.level4_and_kl,
    "correlation": scores.correlation,
    "calibration": scores.calibration,
    "concentration": parameters.concentration,
    "restored": parameters.restored,
    "restored_training": parameters.restored_training,
    "restored_by_layer": parameters.restored_by_layer,
    "restored_by_module": parameters.restored_by_module,
    "restored_blocks": parameters.restored_blocks,
    "claims": summary.claims,
    "recommendation": summary.recommendation,
    "costs": summary.costs,
}


def printed(tables: Tables) -> list[Printed]:
    """Every table of the report; with several models, the model is the first column.

    Args:
        tables: by name, joined over models.
    """
    return [printer(tables) for printer in PRINTERS.values()]
