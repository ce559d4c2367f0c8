"""Blocks that take too much processor time are stopped, also within one another."""

import time

import pytest

from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.time_limit import at_most


def compute(seconds: float) -> None:
    """Use the processor for so long."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_a_block_without_end_is_stopped() -> None:
    with (
        pytest.raises(KnowshiftError, match=r"too long; say less \(stopped after 0.2 s\)"),
        at_most("too long; say less", 0.2),
    ):
        compute(60)


def test_waiting_is_not_computing() -> None:
    with at_most("too long", 0.2):
        time.sleep(0.6)


def test_a_bound_outside_holds_after_one_inside() -> None:
    with pytest.raises(KnowshiftError, match="outside"), at_most("outside", 0.5):
        with at_most("inside", 5):
            compute(0.1)
        with pytest.raises(KnowshiftError, match="inside"), at_most("inside", 0.1):
            compute(60)
        compute(60)


def test_no_bound_is_left_behind() -> None:
    with at_most("too long", 0.2):
        compute(0.1)
    compute(0.4)
