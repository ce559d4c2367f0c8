"""What a workflow needs before its first job: the packages it imports, and the interpreter that jobs run under."""

import os
import re
import shlex
import tomllib
from collections.abc import Collection
from importlib import metadata
from pathlib import Path

# What reading the Snakefile imports. Jobs import the rest, under Snakemake's own interpreter or in a conda environment.
READ_WITH = frozenset({"filelock", "numpy", "pyarrow", "pydantic", "pyyaml", "rich", "safetensors"})
BASH_DEFAULTS = "set -euo pipefail; "  # what Snakemake puts before shell commands where no prefix is set


def missing_packages(pyproject: Path, only: Collection[str] | None = None) -> list[str]:
    """List the dependencies that this interpreter does not have. Versions do not count: other builds may be wanted.

    Args:
        pyproject: the file that declares them.
        only: names to look for; None means all.
    """
    declared = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in declared]
    return [name for name in names if (only is None or name in only) and not _is_installed(name)]


def how_to_install(missing: Collection[str], root: Path, executable: str, conda: bool) -> str:
    """Write the line that says which packages are missing, and how they are installed.

    Args:
        missing: names of packages.
        root: the folder of the clone.
        executable: path of the interpreter that runs Snakemake.
        conda: whether jobs run in conda environments, so that only some packages are needed here.
    """
    lock, python = shlex.quote(str(root / "envs/requirements.lock")), shlex.quote(executable)
    if conda:
        ways = f"{python} -m pip install {' '.join(sorted(READ_WITH))}"
    else:
        ways = (
            f"{python} -m pip install -r {lock} (a Snakemake of pipx: pipx runpip snakemake install -r {lock}; uv: uv"
            f" pip install --python {python} -r {lock}), or run `make run` in {shlex.quote(str(root))}"
        )
    return f"The Python that runs Snakemake, {executable}, lacks {', '.join(missing)}. Install: {ways}"


def shell_prefix(executable: str) -> str:
    """Return what stands before all shell commands, so that `python` and `torchrun` there are those of Snakemake.

    Braces are doubled, since Snakemake formats the text.

    Args:
        executable: path of the interpreter that runs Snakemake.
    """
    folder = Path(executable).parent
    prefix = f"{BASH_DEFAULTS}export PATH={shlex.quote(str(folder))}:$PATH; "
    if os.path.realpath(folder / "python") != os.path.realpath(executable):  # a system's python3 without a `python`
        prefix += f'python() {{ {shlex.quote(executable)} "$@"; }}; '
    return prefix.replace("{", "{{").replace("}", "}}")


def configuration_file(root: Path) -> str:
    """Return the configuration where none is named: that of the working directory, or else of the clone.

    Raises:
        WorkflowError: it makes Snakemake run Python, or it cannot be read.
    """
    # Here and not above, because only now it is known that all packages are there.
    from snakemake.exceptions import WorkflowError

    from knowshift.configuration.checking import refuse_templates
    from knowshift.runtime.errors import KnowshiftError
    from knowshift.runtime.yaml_files import read_yaml

    path = Path("config.yaml") if os.path.lexists("config.yaml") else root / "config.yaml"
    try:
        refuse_templates(read_yaml(path, " does not exist"), path)
    except KnowshiftError as error:
        raise WorkflowError(str(error)) from None
    return str(path)


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
