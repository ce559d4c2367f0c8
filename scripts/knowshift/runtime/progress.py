"""Shows progress bars and log lines on standard error."""

import logging
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def start_logging() -> logging.Logger:
    """Set up logging to standard error, with the time of day, and return the logger."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    return logging.getLogger("knowshift")


def progress(
    items: Iterable[T] | None = None,
    *,
    what: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    show: bool = True,
) -> tqdm:
    """Make a progress bar that appears after two seconds and is updated every second (in a log file, every ten).

    Args:
        items: what to iterate over; None for a bar that the caller updates.
        what: the label.
        unit: plural name of what is counted.
        total: how many there are; None takes the length of `items`, if it has one.
        initial: how many are done already.
        show: False makes a bar that shows nothing.
    """
    return tqdm(
        items,
        desc=what,
        unit=f" {unit}",
        total=total,
        initial=initial,
        dynamic_ncols=True,
        mininterval=1.0 if sys.stderr.isatty() else 10.0,
        delay=2.0,
        file=sys.stderr,
        disable=not show,
    )
