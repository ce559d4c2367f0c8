"""Bounds the time of what a user or a model gives and Python runs: regular expressions and chat templates."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from knowshift.runtime.errors import KnowshiftError

SECONDS = 5.0  # of processor time, thousands of times what a search or a template takes that does what it should


class _Expired(BaseException):
    """The time is over. It is no `Exception`, so that nobody handles it on the way."""


@contextmanager
def at_most(message: str, seconds: float | None = None) -> Iterator[None]:
    """Stop a block that takes more processor time than it may; time that a busy machine lets it wait does not count.

    Signals reach only the main thread, so a block in another thread is not bounded.

    Args:
        message: what is wrong if the time is over, and what to do.
        seconds: how much time there is; None means `SECONDS`.

    Raises:
        KnowshiftError: the time is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    running, seconds = True, SECONDS if seconds is None else seconds

    def stop(*_: object) -> None:
        if running:
            raise _Expired

    before, started = signal.signal(signal.SIGPROF, stop), time.process_time()
    outside, _ = signal.setitimer(signal.ITIMER_PROF, seconds)  # what is left of a bound that this block lies in
    try:
        yield
    except _Expired:
        raise KnowshiftError(f"{message} (stopped after {seconds:g} s)") from None
    finally:
        running = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before or signal.SIG_DFL)
        if outside:
            signal.setitimer(signal.ITIMER_PROF, max(outside - (time.process_time() - started), 0.001))
