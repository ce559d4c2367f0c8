"""What the tensors of a model directory are to the model that is made of them."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedModel

from knowshift.models.admission import one_line
from knowshift.weights.model_folder import PLAIN, read_config
from knowshift.weights.safetensors_files import WeightFiles


def stored_without_parameter(directory: Path) -> list[str]:
    """List the stored tensors that are no parameters of the model, sorted: masks, tables, all that is not float.

    The model is built without memory for its weights, and tells what it takes for a buffer and what it ignores. A model
    with code of its own is not built; of it only types, names and shapes are looked at.

    Args:
        directory: model directory, with weights in safetensors.

    Raises:
        KnowshiftError: transformers cannot build the model.
    """
    weights = WeightFiles(directory)
    if read_config(directory).get("model_type") not in CONFIG_MAPPING:
        return sorted(weights.no_parameters)
    with one_line(directory), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(directory, local_files_only=True), attn_implementation=PLAIN
        )
    return sorted(weights.no_parameters | set(_unlearned(weights.names(), model)))


def _unlearned(names: Iterable[str], model: PreTrainedModel) -> Iterator[str]:
    """Yield the names of stored tensors that a model takes for buffers, or ignores, and not for parameters."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    ignored = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    prefix = f"{model.base_model_prefix}."
    for name in names:
        known = {name, prefix + name, name.removeprefix(prefix)}  # files of a base model leave the prefix out
        ignores = any(pattern.search(name) for pattern in ignored)
        if not known & parameters and (known & buffers or ignores):
            yield name
