"""How many parameters a model has, before anything of it is loaded."""

import json
import math
import re
from pathlib import Path


def stored_parameters(directory: Path) -> int | None:
    """The number of parameters in a directory of safetensors, from the heads of the files; None where there is no file."""
    total = 0
    for path in directory.glob("*.safetensors"):
        with path.open("rb") as file:
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(math.prod(entry["shape"]) for name, entry in head.items() if name != "__metadata__")
    return total or None


def named_parameters(name: str) -> int | None:
    """The number of parameters that a model's name tells: 7e9 of Llama-2-7b-hf, 135e6 of smollm2-135m, 56e9 of 8x7B."""
    found = re.findall(r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z\d])", name.lower())
    sizes = [int(experts or 1) * float(number) * {"b": 1e9, "m": 1e6}[unit] for experts, number, unit in found]
    return round(max(sizes)) if sizes else None
