"""Run the workflow in a folder of its own, and list exactly the jobs that ran or would run."""

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
    """Copy the repository's files with their uncommitted changes, without what a run or a tool has made."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
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
    """Run Snakemake in a folder, with the Snakefile that is there, or else the repository's.

    Args:
        python: a folder with another `python` for the jobs.
        profile: the folder of the workflow profile.
    """
    own = folder / "Snakefile"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(own if own.exists() else REPOSITORY / own.name)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    plugins = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
    command += ["--workflow-profile", str(profile), *arguments]
    environment = {**os.environ, "PATH": path, "PYTHONPATH": plugins}
    environment |= {"KNOWSHIFT_PYTHON": str(python / "python")} if python else {}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def jobs(folder: Path, *arguments: str, fails: bool = False, **more: Path) -> dict[str, set[str]]:
    """Run Snakemake and return its jobs, without the target rule; with `fails`, assert that it ends in an error."""
    with NamedTemporaryFile("r", encoding="utf-8") as file:
        done = snakemake(folder, "--logger", "jobs", "--logger-jobs-path", file.name, *arguments, **more)
        assert bool(done.returncode) == fails, done.stderr[-5000:] + done.stdout[-2000:]
        ran: dict[str, set[str]] = {}
        for rule, wildcards in map(json.loads, file):
            ran.setdefault(rule, set()).add("/".join(filter(None, wildcards)))
    ran.pop("all", None)
    return ran


def would_run(folder: Path, *arguments: str, **more: Path) -> dict[str, set[str]]:
    """Return the jobs of a dry run."""
    return jobs(folder, "--dry-run", *arguments, **more)


def together(*parts: Jobs) -> dict[str, set[str]]:
    """Return the union of several sets of jobs."""
    united: dict[str, set[str]] = {}
    for part in parts:
        for rule, cells in part.items():
            united.setdefault(rule, set()).update(cells)
    return united


def each(model: str, cells: Iterable[str], end: str = "") -> set[str]:
    """Put the name of a model before cells, and perhaps an end after them."""
    return {f"{model}/{cell}{end}" for cell in cells}


def configure(folder: Path, **sections: object) -> dict:
    """Return the configuration in a folder, after replacing the sections that are given."""
    path = folder / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    if sections:
        settings |= sections
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return settings
