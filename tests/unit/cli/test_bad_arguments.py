"""Whatever stands on the command line of a script, a mistake is one line, and nothing is loaded or written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
SCRIPTS = sorted((REPOSITORY / "scripts").glob("*.py"))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all scripts did with all arguments that cannot be, in one process; see tests/support/bad_arguments.py."""
    program = REPOSITORY / "tests/support/bad_arguments.py"
    command = [sys.executable, str(program), str(tmp_path_factory.mktemp("sandbox"))]
    scripts = json.dumps([str(path) for path in SCRIPTS])
    done = subprocess.run(command, input=scripts, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [path.stem for path in SCRIPTS])
def test_arguments_that_cannot_be_end_in_one_line_and_write_nothing(told: dict[str, Any], name: str) -> None:
    cases = told["scripts"][name]
    assert len({case["kind"] for case in cases}) >= 10
    for case in cases:
        first, *more = case["said"].splitlines()
        assert case["status"] in (1, 2) and first.startswith("error: "), case
        assert all(line.startswith("configuration: ") for line in more), case  # those of a plan: a line per problem
        assert len(first) < 1000 and not case["written"], case


def test_mistakes_are_answered_before_anything_heavy_is_imported(told: dict[str, Any]) -> None:
    assert told["heavy"] == []
    assert sum(map(len, told["scripts"].values())) > 1000


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such"],
        ["no_such_rule"],
        ["no_such_rule", "--reason", "x"],
        ["diff_weights", "--reason", "x"],
        ["--since"],
        ["--since", "no-such-revision"],
        ["--since=--output=made"],
        ["--since", ""],
        ["--since", "a\nb"],
        ["--reason"],
        ["--all=1"],
        ["../finetune"],
    ],
)
def test_the_record_of_neutral_changes_answers_in_one_line_too(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "rules/neutral.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2) and done.stderr.count("error: ") == 1, done.stderr
    assert "Traceback" not in done.stderr and not any(tmp_path.iterdir())
