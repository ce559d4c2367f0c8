"""However Snakemake is started: its jobs run under its own interpreter, and what is missing is said in one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import planned
import starting

REPOSITORY = Path(__file__).parents[2]
TARGET = "results/facts/city_state.parquet"
SYSTEM_PATH = os.pathsep.join(folder for folder in ("/usr/bin", "/bin", "/usr/local/bin") if Path(folder).is_dir())


def start(
    folder: Path, *arguments: str, snakefile: Path = REPOSITORY / "Snakefile"
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake by its interpreter's path, with nothing on PATH but the system's programs."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--cores", "1", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | {"PATH": SYSTEM_PATH}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def experiment(folder: Path) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(planned.configuration()))
    return path


def test_jobs_run_without_an_activated_environment_from_elsewhere_and_in_a_path_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    clone = tmp_path / "a clone"
    clone.mkdir()
    for part in ("Snakefile", "rules", "scripts", "resources", "profiles", "envs", "pyproject.toml", "schemas"):
        (clone / part).symlink_to(REPOSITORY / part)
    done = start(folder, "--configfile", str(experiment(folder)), "--", TARGET, snakefile=clone / "Snakefile")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / TARGET).exists()
    assert re.search(r"\d\d:\d\d:\d\d  1 of 1 jobs  Facts of city_state", done.stderr) and "Reason:" not in done.stderr


def test_the_configuration_of_the_clone_counts_where_the_working_directory_has_none(tmp_path: Path) -> None:
    done = start(tmp_path, "--dry-run", "--quiet", "rules", "--", TARGET)
    assert done.returncode == 0, done.stderr[-3000:]
    (tmp_path / "config.yaml").write_text("sede: 1\n")
    done = start(tmp_path, "--dry-run", "--", TARGET)
    assert done.returncode and "sede" in done.stderr + done.stdout


def test_the_prefix_puts_the_interpreter_first_whatever_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "it's {a} folder"
    folder.mkdir()
    for name, said in (("python", "first"), ("python3", "function")):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho {said}\n")
        program.chmod(0o755)
    for name, said in (("python", "first"), ("python3", "function")):
        prefix = starting.shell_prefix(str(folder / name)).format()  # as Snakemake does
        done = subprocess.run(["bash", "-c", f"{prefix} python"], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == said


def test_what_is_missing_is_said_with_the_way_to_install_it(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[project]\ndependencies = ["pyyaml>=6", "no-such-package==1; python_version>\'3\'", "other.one[x]"]\n'
    )
    assert starting.missing_packages(file) == ["no-such-package", "other.one"]
    assert starting.missing_packages(file, {"pyyaml"}) == []
    assert starting.missing_packages(REPOSITORY / "pyproject.toml") == []
    line = starting.how_to_install(["torch"], Path("/a b"), "/x/python", conda=False)
    assert "lacks torch" in line and "-r '/a b/envs/requirements.lock'" in line and "\n" not in line
    assert "pydantic" in starting.how_to_install(["pydantic"], Path("/a"), "/x/python", conda=True)


@pytest.mark.parametrize("method", ["", "conda"])
def test_only_jobs_without_a_conda_environment_get_the_prefix(tmp_path: Path, method: str) -> None:
    snakefile = tmp_path / "Snakefile"
    text = (REPOSITORY / "Snakefile").read_text()
    text = text.replace("workflow.current_basedir)  #", f"{str(REPOSITORY)!r})  #")
    text = re.sub(r'include: "', f'include: "{REPOSITORY}/', text)
    snakefile.write_text(text + '\nprint("PREFIX", shell._get_process_prefix("bash"))\n')
    conda = tmp_path / "bin/conda"
    conda.parent.mkdir()
    conda.write_text('#!/bin/sh\necho "conda 25.1.0"\n')
    conda.chmod(0o755)
    more = ["--sdm", method] if method else []
    done = start(tmp_path, "--configfile", str(experiment(tmp_path)), *more, "--list-rules", snakefile=snakefile)
    assert done.returncode == 0, done.stderr[-3000:]
    assert ("export PATH" in done.stdout) == (not method) and "PREFIX" in done.stdout
