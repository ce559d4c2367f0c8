"""How many parameters a model has, before anything of it is loaded."""

import math
import re
from pathlib import Path

from knowshift.weights.safetensors_files import Weights


def stored_parameters(directory: Path) -> int | None:
    """The number of parameters in a model directory, from the heads of its files; None where it holds no safetensors.

    Raises:
        KnowshiftError: a file is no safetensors file, or one is missing.
    """
    if not any(directory.glob("*.safetensors")):
        return None
    return sum(math.prod(place.shape) for place in Weights(directory).places.values())


def named_parameters(name: str) -> int | None:
    """The number of parameters that a model's name tells: 7e9 of Llama-2-7b-hf, 135e6 of smollm2-135m, 56e9 of 8x7B."""
    found = re.findall(r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z\d])", name.lower())
    sizes = [int(experts or 1) * float(number) * {"b": 1e9, "m": 1e6}[unit] for experts, number, unit in found]
    return round(max(sizes)) if sizes else None
