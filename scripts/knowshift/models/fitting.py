"""Whether a model has the tensors that an experiment compares and adapts, by the names in its files alone.

This is cheap, and asks neither torch nor transformers: it runs whenever the Snakefile is read. What memory names
otherwise than files do is left to the trial of the model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.model_folder import weight_set
from knowshift.weights.regions import names_in_region
from knowshift.weights.safetensors_files import read_header

# Layers that memory may name otherwise than files: heads and embeddings that are tied or renamed, fused experts.
NAMED_OTHERWISE = ("head", "embed", "expert", "gate_up_proj", "qkv")


def stored_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the tensors in a model directory, by name, sorted.

    Raises:
        KnowshiftError: the files are damaged, or are not one set of weights.
    """
    files = weight_set(directory).files
    shapes = {name: tensor.shape for file in files for name, tensor in read_header(directory / file).items()}
    return dict(sorted(shapes.items()))


def check_names(
    shapes: Mapping[str, Sequence[int]], regions: Sequence[str], targets: Sequence[str | Sequence[str]]
) -> None:
    """Check regions and the targets of adapters against the tensors of a model.

    Args:
        shapes: the shapes of its tensors, by name.
        regions: see `regions.in_region`.
        targets: the targets of each kind of adapters (`finetuning.lora.targets`).

    Raises:
        KnowshiftError: a region holds no tensor, or lists a layer that the model lacks; or no layer has the name of any
            target.
    """
    for region in regions:
        names_in_region([*shapes], region)
    layers = {name.rpartition(".")[0] for name, shape in shapes.items() if len(shape) > 1}
    for some in targets:
        if some == "all-linear" or any(part in target for target in some for part in NAMED_OTHERWISE):
            continue
        if not any(layer == target or layer.endswith(f".{target}") for target in some for layer in layers):
            found = sorted({layer.rpartition(".")[2] for layer in layers})
            raise KnowshiftError(
                f"finetuning.lora.targets: the model has no layer called {' or '.join(some)}; its layers are called"
                f" {', '.join(found[:20])}"
            )
