"""Print the exact versions of all dependencies that pyproject.toml declares, and of all they need (see `make lock`).

No addresses and no build tags stand in the lock: the same versions come from any index, as a CPU or a CUDA build.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CUDA_ONLY = re.compile(r"nvidia-|cuda-|triton$")  # a CUDA build of torch asks for these itself


def main() -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run([*command, f"{ROOT}[dev]"], capture_output=True, text=True, check=True)
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(done.stdout)["install"]}
    found.pop("knowshift")
    print("# All dependencies, exactly; written by `make lock` from pyproject.toml.")
    for name in sorted(found, key=str.casefold):
        if not CUDA_ONLY.match(name):
            print(f"{name}=={found[name].partition('+')[0]}")


if __name__ == "__main__":
    main()
