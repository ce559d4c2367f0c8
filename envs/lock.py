"""Write the exact versions of all dependencies that pyproject.toml declares, and of all they need (see `make lock`).

requirements.lock is for pip. knowshift.yaml is for `snakemake --sdm conda`; it repeats the list, because Snakemake
copies that file elsewhere. slurm.lock is for pip on top of requirements.lock, where jobs go to a SLURM cluster. The
files hold no addresses and no build tags: the same versions come from any index, as CPU or CUDA builds.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ENVS = Path(__file__).parent
CUDA_ONLY = re.compile(r"nvidia-|cuda-|triton$")  # a CUDA build of torch asks for these itself
HEAD = "# All dependencies, exactly; written by `make lock` from pyproject.toml.\n"
SLURM = "# What jobs on a SLURM cluster need besides requirements.lock; written by `make lock` from pyproject.toml.\n"
CONDA = "channels:\n  - conda-forge\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n"


def main() -> None:
    """Resolve the dependencies and write the three files."""
    pins = resolve("dev")
    (ENVS / "requirements.lock").write_text(HEAD + "".join(f"{pin}\n" for pin in pins))
    (ENVS / "knowshift.yaml").write_text(HEAD + CONDA + "".join(f"      - {pin}\n" for pin in pins))
    more = resolve("dev,slurm", "--constraint", str(ENVS / "requirements.lock"))
    (ENVS / "slurm.lock").write_text(SLURM + "".join(f"{pin}\n" for pin in more if pin not in pins))


def resolve(extras: str, *options: str) -> list[str]:
    """List all packages that pyproject.toml with these extras needs, as name==version.

    Args:
        extras: names of optional dependencies, with commas between.
        options: more options of `pip install`.
    """
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run([*command, *options, f"{ENVS.parent}[{extras}]"], capture_output=True, text=True, check=True)
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(done.stdout)["install"]}
    found.pop("knowshift")
    names = sorted((name for name in found if not CUDA_ONLY.match(name)), key=str.casefold)
    return [f"{name}=={found[name].partition('+')[0]}" for name in names]


if __name__ == "__main__":
    main()
