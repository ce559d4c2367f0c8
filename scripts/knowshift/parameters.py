"""How many parameters a model on disk has."""

import json
import math
from pathlib import Path


def stored_parameters(directory: Path) -> int | None:
    """The number of parameters in a directory of safetensors, from the heads of the files; None where there is no file."""
    total = 0
    for path in directory.glob("*.safetensors"):
        with path.open("rb") as file:
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(math.prod(entry["shape"]) for name, entry in head.items() if name != "__metadata__")
    return total or None
