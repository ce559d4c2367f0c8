"""Command lines take flags or one spec, refuse what cannot be, and say in one line what a user can mend."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from cli.command_line import CommandLine
from knowshift.configuration.section import Section

REPOSITORY = Path(__file__).parents[3]


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_spec_and_flags_say_the_same(tmp_path: Path) -> None:
    templates = REPOSITORY / "resources/templates/symbol_element.yaml"
    common = ["--raw", str(REPOSITORY / "resources/facts"), "--templates", str(templates)]
    for name, more in {"flags": ["--domain", "in_domain"], "spec": ["--spec", '{"domain": "in_domain"}']}.items():
        done = script("build_facts", *common, *more, "--output", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "flags").read_bytes() == (tmp_path / "spec").read_bytes()
    done = script("build_facts", *common, "--spec", '{"domian": "in_domain"}', "--output", str(tmp_path / "x"))
    assert done.returncode == 2 and "unknown keys ['domian']" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--domain", "indomain"], "--domain: 'indomain' is none of in_domain, out_of_domain"),
        (["--spec", '{"domain": "in_domain", "on_bad_rows": "halt"}'], "--on-bad-rows: 'halt' is none of stop, drop"),
        (["--spec", "{domain}"], "--spec: not valid JSON"),
        ([], "--domain is required"),
        (["--spec", '{"domain": "\\ud800"}'], "--domain: "),
    ],
)
def test_options_that_cannot_be_are_refused(options: list[str], said: str, tmp_path: Path) -> None:
    files = ["--raw", str(tmp_path), "--templates", str(tmp_path / "x.yaml"), "--output", str(tmp_path / "y")]
    done = script("build_facts", *files, *options)
    assert done.returncode == 2 and said in done.stderr


def test_null_is_none_where_an_option_may_be_null() -> None:
    class Options(BaseModel):
        size: int | None = 3
        split: Literal["train", "test"] | None = "train"
        text: str = "x"

    _, options = CommandLine("", Options).read(["--size", "null", "--split", "null", "--text", "null"])
    assert options == Options(size=None, split=None, text="null")


def test_what_a_user_can_mend_is_one_line(tmp_path: Path) -> None:
    done = script("count_levels", "--mastery", str(tmp_path / "missing.parquet"), "--output", str(tmp_path / "x"))
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: ")
        and "missing.parquet does not exist" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


@pytest.mark.parametrize("given", [["--spec", '{"text": "\\ud800"}'], ["--text", "\udcff"]])
def test_halves_of_characters_are_refused(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    class Options(Section):
        text: str = Field(default="x", description="A text.")

    with pytest.raises(SystemExit):
        CommandLine("", Options).read(given)
    assert "error: --text: " in (said := capsys.readouterr().err) and "half of a character" in said
