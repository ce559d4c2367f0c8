"""Runs functions on drawn inputs: a fixed number of always the same, or for as long as the command line says."""

import time
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

BATCH = 50  # inputs that are drawn from one seed, when a time is given
PATIENCE = 1800  # seconds of the clock for a test whose time is over, on a machine that is slow or busy with other work


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Bound the tests that draw inputs by the clock only where nothing goes on any more.

    What an input takes is bounded in processor time (`fuzzing.bounded`), which a busy machine does not use up.
    """
    drawing = [item for item in items if "fuzz" in getattr(item, "fixturenames", ())]
    for item in drawing:
        item.add_marker(pytest.mark.timeout((config.getoption("--fuzz-seconds") or 0) / len(drawing) + PATIENCE))


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function that calls `check` with many inputs drawn from a strategy.

    Without options the inputs are always the same, so that no run fails by chance, on whatever machine.
    """
    seconds, seed = request.config.getoption("--fuzz-seconds"), request.config.getoption("--fuzz-seed")
    tests = [item for item in request.session.items if "fuzz" in getattr(item, "fixturenames", ())]

    def batch(strategy: st.SearchStrategy[Any], check: Callable[[Any], object], inputs: int, seed: int) -> None:
        """Check some inputs; hypothesis shrinks the one that fails, and shows it."""

        @hypothesis.seed(seed)
        @settings(
            max_examples=inputs,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def checked(value: Any) -> None:
            check(value)

        try:
            checked()
        except BaseException as error:
            error.add_note(f"again with: --fuzz-seed {seed}")
            raise

    def run(strategy: st.SearchStrategy[Any], check: Callable[[Any], object], inputs: int = 100) -> None:
        if seconds is None:
            return batch(strategy, check, inputs, seed)
        end, number = time.monotonic() + seconds / len(tests), seed
        while time.monotonic() < end:
            batch(strategy, check, BATCH, number)
            number += 1
        return None

    return run
