"""The number of parameters of a model, known before anything of it is loaded."""

import math
import re
from pathlib import Path

from knowshift.weights.safetensors_files import WeightFiles


def stored_parameters(directory: Path) -> int | None:
    """Count the parameters in a model directory from the headers of its files; None if it holds no safetensors files.

    Raises:
        KnowshiftError: a file is no safetensors file, or one is missing.
    """
    if not any(directory.glob("*.safetensors")):
        return None
    weights = WeightFiles(directory)
    return sum(math.prod(tensor.shape) for name, tensor in weights.tensors.items() if name not in weights.no_parameters)


def named_parameters(name: str) -> int | None:
    """Read the number of parameters from a model's name, or return None if the name has none.

    Llama-2-7b-hf gives 7e9, smollm2-135m 135e6 and 8x7B 56e9.
    """
    found = re.findall(r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z\d])", name.lower())
    sizes = [int(experts or 1) * float(number) * {"b": 1e9, "m": 1e6}[unit] for experts, number, unit in found]
    return round(max(sizes)) if sizes else None
