"""Lays out every printed table that `contents` lists."""

from knowshift.report.contents import TABLES
from knowshift.report.frames import Frames
from knowshift.report.tables import confidence, elsewhere, knowledge, parameters, scores, summary, tasks, undoing
from knowshift.report.tables.layout import PrintedTable

# Modules that `contents` names. Each of their public functions lays out one printed table.
MODULES = {
    "confidence": confidence,
    "elsewhere": elsewhere,
    "knowledge": knowledge,
    "parameters": parameters,
    "scores": scores,
    "summary": summary,
    "tasks": tasks,
    "undoing": undoing,
}


def printed_tables(frames: Frames) -> dict[str, PrintedTable]:
    """Lay out all printed tables, in the order of the report.

    With several models, the first column of each names the model.

    Returns:
        The tables by name.
    """
    return {entry.name: getattr(MODULES[entry.module], entry.name)(frames) for entry in TABLES}
