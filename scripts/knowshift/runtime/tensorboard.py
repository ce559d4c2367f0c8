"""Writes training curves for TensorBoard while a training runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knowshift.runtime.errors import KnowshiftError

SHOWN = ("loss", "learning_rate", "gradient_norm")


@contextmanager
def tensorboard(folder: Path | None, first: int = 1) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that writes the events of one optimizer step, given as a row in the schema `STEPS`.

    Args:
        folder: folder of the events; None writes nothing.
        first: the first step that will be written; events of an interrupted run from this step on are dropped.

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
        """Write one step."""
        for name in SHOWN:
            writer.add_scalar(f"train/{name}", row[name], row["step"])

    with SummaryWriter(str(folder), purge_step=first) as writer:
        yield write
