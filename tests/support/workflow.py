"""Run the workflow in a folder of its own, and say exactly which jobs ran or would run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

import yaml

REPOSITORY = Path(__file__).parents[2]
PROFILE = REPOSITORY / "profiles/default"
PLUGINS = Path(__file__).parents[1] / "plugins"
ONCE = {""}  # the cell of a rule that has no wildcards

Jobs = Mapping[str, set[str]]  # rule to its cells: the values of the wildcards, such as tiny/full-mixed-8-s1


def clone(folder: Path) -> None:
    """Copy the repository's files, as they stand, without what a run or a tool has made."""
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:  # unpacked from an archive
        made = shutil.ignore_patterns("results", ".*", "__pycache__", "logs")
        shutil.copytree(REPOSITORY, folder, ignore=made, dirs_exist_ok=True)
        return
    for name in filter(None, listed.stdout.split("\0")):
        source, target = REPOSITORY / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def snakemake(
    folder: Path, *arguments: str, python: Path | None = None, profile: Path = PROFILE
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder: the workflow that is there, or else the repository's.

    Args:
        python: a folder with another `python` for the jobs.
    """
    own = folder / "Snakefile"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(own if own.exists() else REPOSITORY / own.name)]
    path = os.pathsep.join([*([str(python)] if python else []), str(Path(sys.executable).parent), os.environ["PATH"]])
    plugins = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [*command, "--workflow-profile", str(profile), *arguments],
        cwd=folder, env={**os.environ, "PATH": path, "PYTHONPATH": plugins}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def jobs(folder: Path, *arguments: str, fails: bool = False, **more: Path) -> dict[str, set[str]]:
    """The jobs that Snakemake runs, the target rule left out; with `fails` some end in errors, which is expected."""
    with NamedTemporaryFile("r", encoding="utf-8") as file:
        done = snakemake(folder, "--logger", "jobs", "--logger-jobs-path", file.name, *arguments, **more)
        assert bool(done.returncode) == fails, done.stderr[-5000:] + done.stdout[-2000:]
        ran: dict[str, set[str]] = {}
        for rule, wildcards in map(json.loads, file):
            ran.setdefault(rule, set()).add("/".join(wildcards))
    ran.pop("all", None)
    return ran


def would_run(folder: Path, *arguments: str, **more: Path) -> dict[str, set[str]]:
    """The jobs of a dry run."""
    return jobs(folder, "--dry-run", *arguments, **more)


def together(*parts: Jobs) -> dict[str, set[str]]:
    """All jobs of several sets."""
    united: dict[str, set[str]] = {}
    for part in parts:
        for rule, cells in part.items():
            united.setdefault(rule, set()).update(cells)
    return united


def each(model: str, cells: Iterable[str], end: str = "") -> set[str]:
    """Cells of a model."""
    return {f"{model}/{cell}{end}" for cell in cells}


def configure(folder: Path, **sections: object) -> dict:
    """The configuration in a folder; sections that are given are replaced first."""
    path = folder / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    if sections:
        settings |= sections
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return settings
