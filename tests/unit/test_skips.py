"""Tests of the rule that CI fails when a test is skipped that tests/allowed_skips.txt does not list."""

import re
from pathlib import Path

import pytest

import skips

REPOSITORY = Path(__file__).parents[2]
LIST = REPOSITORY / "tests/allowed_skips.txt"
pytest_plugins = ["pytester"]

CONFTEST = """
from pathlib import Path
import skips

def pytest_configure(config):
    config.pluginmanager.register(skips.Skips(Path(__file__).with_name("allowed_skips.txt")))
"""
TESTS = """
import pytest

@pytest.fixture
def browser():
    pytest.skip("no browser here")

@pytest.mark.parametrize("size", [1, 2])
def test_page(browser, size): pass

@pytest.mark.skipif(True, reason="no GPU")
def test_kernel(): pass

@pytest.mark.xfail(reason="known")
def test_known(): assert False

def test_passes(): pass
"""
MODULE = 'import pytest\npytest.importorskip("no_such_module", reason="no such module")\ndef test_it(): pass\n'


LISTED = "test_a.py::test_page*  no browser\ntest_a.py::test_kernel  no GPU\ntest_c.py  no such module\n"
# Commented out; for another reason; another file.
NOT_LISTED = "# test_a.py::test_page*  no browser\ntest_a.py::test_kernel  another reason\ntest_b.py  no such module\n"


@pytest.mark.parametrize(("listed", "outcomes"), [(LISTED, {"skipped": 4}), (NOT_LISTED, {"errors": 4})])
def test_a_skip_is_listed_or_an_error(pytester: pytest.Pytester, listed: str, outcomes: dict[str, int]) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makefile(".txt", allowed_skips=listed)
    pytester.makepyfile(test_a=TESTS, test_c=MODULE)
    result = pytester.runpytest_inprocess("-ra", "--continue-on-collection-errors")
    result.assert_outcomes(passed=1, xfailed=1, **outcomes)
    assert bool(result.ret) == ("errors" in outcomes)
    if result.ret:
        result.stdout.fnmatch_lines(["*test_a.py::test_*: Skipped: no *", "*allowed_skips.txt must list*"])


def test_the_list_names_tests_that_there_are() -> None:
    for pattern, reason in skips.read_allowed(LIST):
        path, _, name = pattern.partition("::")
        text = (REPOSITORY / path).read_text()
        assert re.search(rf"^(async )?def {re.escape(name.partition('*')[0])}", text, re.MULTILINE) or name == "*"
        assert reason in text, f"{path} skips nothing for this reason: {reason}"
