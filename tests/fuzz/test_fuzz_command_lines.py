"""Whatever stands on a command line is done, or refused in one line before anything is read or written."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from cli.command_line import CommandLine
from fuzzing import JUNK, bounded, fresh_folder, runs_well, spoiled, words_of
from knowshift.configuration.section import Section

Fuzz = Callable[..., None]
REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted(path.stem for path in (REPOSITORY / "scripts").glob("*.py"))
# Good values of options that have no default.
GOOD: dict[str, Any] = {
    "domain": "in_domain",
    "data": "mixed",
    "draw": "s1",
    "percent": 20,
    "source": {"directory": "."},
    "per_level": {"test": 4},
    "grid": {"data": ["mixed"], "sizes": [8], "seeds": [1]},
    "sources": {"tiny": "owner/name", "mine": None},
}


def options_of(script: str) -> type[Section] | None:
    """The model that a script takes its options from, if it has one."""
    module = import_module(script)
    for name in ("Options", "TrainingOptions", "ProbingOptions", "RunOptions", "Divergence"):
        if isinstance(found := getattr(module, name, None), type):
            return found
    return None


OPTIONS = {script: options for script in SCRIPTS if (options := options_of(script))}


def values_of(options: type[Section]) -> dict[str, Any]:
    """Good values of all options, as JSON has them."""
    needed = {name: GOOD[name] for name, field in options.model_fields.items() if field.is_required()}
    return options.model_validate(needed).model_dump(mode="json")


@pytest.mark.parametrize("script", OPTIONS)
def test_options(script: str, fuzz: Fuzz, capsys: pytest.CaptureFixture[str]) -> None:
    options = OPTIONS[script]
    good = values_of(options)
    flags = {f"--{name.replace('_', '-')}": json.dumps(value).strip('"') for name, value in good.items()}

    def check(line: list[str]) -> None:
        parser = CommandLine("", options)
        parser.execution(chunk=8)
        capsys.readouterr()
        try:
            with bounded():
                _, read = parser.read(line)
        except SystemExit as end:
            said = capsys.readouterr()
            assert (end.code == 2 and said.err.count("error: ") == 1) or (end.code == 0 and said.out), said
        else:
            assert options.model_validate(read.model_dump()) == read

    specs = (spoiled(good) | JUNK).map(lambda value: ["--spec", json.dumps(value)])
    check(["--spec", json.dumps(good)])
    fuzz(words_of(flags) | specs, check, 60)


def test_lines_of_a_script_that_reads_and_writes(fuzz: Fuzz) -> None:
    with fresh_folder() as here:
        good = {
            "--raw": REPOSITORY / "resources/facts",
            "--templates": REPOSITORY / "resources/templates/symbol_element.yaml",
            "--domain": "in_domain",
            "--on-bad-rows": "stop",
            "--output": here / "out.parquet",
        }

        def check(line: list[str]) -> None:
            (here / "out.parquet").unlink(missing_ok=True)
            outputs = [Path(line[place + 1]) for place, word in enumerate(line[:-1]) if word == "--output"]
            if all(path.is_relative_to(here) for path in outputs):  # the others would be written wherever they say
                runs_well("build_facts", line)

        check([str(word) for pair in good.items() for word in pair])
        fuzz(words_of(good) | st.lists(st.sampled_from(sorted(good)), max_size=3), check, 100)
