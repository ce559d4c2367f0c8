"""Training curves for TensorBoard, while a training runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knowshift.runtime.errors import KnowshiftError

SHOWN = ("loss", "learning_rate", "gradient_norm")


@contextmanager
def tensorboard(folder: Path | None, first: int = 1) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield what is to be called with every row of the schema `STEPS`; it writes events, or nothing without a folder.

    Args:
        folder: for the events.
        first: the first step that will come: events of an interrupted run from there on no longer count.

    Raises:
        KnowshiftError: the package tensorboard is not installed.
    """
    if folder is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise KnowshiftError("--tensorboard needs the package tensorboard: pip install tensorboard") from None

    def write(row: Mapping[str, Any]) -> None:
        for name in SHOWN:
            writer.add_scalar(f"train/{name}", row[name], row["step"])

    with SummaryWriter(str(folder), purge_step=first) as writer:
        yield write
