"""Make a skipped test fail, unless a file lists it with its reason: nobody reads the skips of a run in CI."""

from collections.abc import Generator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


class Allowed(NamedTuple):
    """A line of the file."""

    pattern: str
    """A shell pattern of node ids, such as `tests/unit/facts/test_facts.py::test_real_*`."""
    reason: str
    """A text that the message of the skip must contain."""


def read_allowed(path: Path) -> list[Allowed]:
    """Read the file: a pattern and a reason on each line, with blanks between; lines that start with # are comments."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [Allowed(*line.split(None, 1)) for line in lines if line and not line.startswith("#")]


class Skips:
    """A plugin of pytest that turns skips which are not listed into failures."""

    def __init__(self, path: Path) -> None:
        self.path, self.allowed = path, read_allowed(path)

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # the outermost: other plugins have told skips by then
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Check the report of a test."""
        return self._check((yield))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Check the report of a file, which may be skipped as a whole."""
        return self._check((yield))

    def _check(self, report: Report) -> Report:
        if report.outcome != "skipped" or hasattr(report, "wasxfail"):
            return report
        message = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(fnmatchcase(report.nodeid, line.pattern) and line.reason in message for line in self.allowed):
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid}: {message}\nIn CI, {self.path.name} must list what may be skipped."
        return report
