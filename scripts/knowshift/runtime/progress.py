"""Progress bars and log lines; they go to standard error and never change a result."""

import logging
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def start_logging() -> logging.Logger:
    """Log lines with the time, to standard error."""
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
    """A progress bar after two seconds: every second on a terminal, every ten seconds in a log file."""
    return tqdm(
        items, desc=what, unit=f" {unit}", total=total, initial=initial, dynamic_ncols=True,
        mininterval=1.0 if sys.stderr.isatty() else 10.0, delay=2.0, file=sys.stderr, disable=not show,
    )  # fmt: skip
