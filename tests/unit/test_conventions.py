"""Scripts and library keep to their places; the lock holds what is declared."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted((REPOSITORY / "scripts").glob("*.py"))


def test_the_library_knows_no_snakemake_no_command_line_and_no_environment() -> None:
    measures_the_machine = (
        REPOSITORY / "scripts/knowshift/planning/machine_speed.py"
    )  # variables limit its instructions
    for path in set((REPOSITORY / "scripts/knowshift").rglob("*.py")) - {measures_the_machine}:
        text = path.read_text()
        for word in ("argparse", "os.environ", "import snakemake", "from snakemake"):
            assert word not in text, path


@pytest.mark.slow  # many scripts import torch first
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_has_help(script: Path) -> None:
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"python scripts/{script.name}" in done.stdout


def test_reading_the_snakefile_imports_nothing_heavy() -> None:
    paths = [str(REPOSITORY / folder) for folder in ("rules", "scripts")]
    program = (
        f"import sys; sys.path[:0] = {paths};"
        "import knowshift.configuration.checking, code_digests.digests, knowshift.finetuning.grid;"
        "print(sorted({'torch', 'transformers', 'pandas', 'altair'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_lock_holds_every_declared_dependency_and_no_address() -> None:
    import tomllib
    from importlib.metadata import version

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (REPOSITORY / "envs/requirements.lock").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if not line.startswith("#"))
    locked = {canonicalize_name(name): number for name, number in locked.items()}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        assert locked[canonicalize_name(wanted.name)] in wanted.specifier, "run: make lock"
        assert version(wanted.name).partition("+")[0] == locked[canonicalize_name(wanted.name)]
    assert not [line for line in lines[1:] if "/" in line or ":" in line]
    conda = yaml.safe_load((REPOSITORY / "envs/knowshift.yaml").read_text())
    assert conda["dependencies"][-1]["pip"] == [line for line in lines if not line.startswith("#")]
