"""Writing model directories that transformers loads, piece by piece: no tensor need be in memory whole."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from knowshift.weights.model_folder import files_beside, read_config
from knowshift.weights.safetensors_files import INDEX, WeightFiles, write_safetensors
from knowshift.weights.torch_bits import bits_of, name_of

# What is copied beside the weights: configuration, tokenizer, licence, code of the model.
COPIED = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken", "LICENSE*", "*.py")
NOT_COPIED = {"manifest.json", "selection.json", "trainer_state.json", INDEX}


def write_parameters(
    output: Path, base: Path, dtypes: Mapping[str, torch.dtype], parameter_of: Callable[[str], torch.Tensor]
) -> None:
    """Write a model in memory into the directory `output`; tensors that are no parameters are copied from the base.

    Args:
        output: an existing directory.
        base: the model directory that the model was loaded from.
        dtypes: the type of each parameter, by its name on disk.
        parameter_of: returns a parameter by its name on disk, on any device.
    """
    weights = WeightFiles(base)

    def pieces(name: str) -> list[np.ndarray]:
        return [bits_of(parameter_of(name).cpu()) if name in dtypes else weights.read(name)]

    stored = {name: tensor.dtype for name, tensor in weights.tensors.items()}
    write_model(output, base, base, stored | {name: name_of(dtype) for name, dtype in dtypes.items()}, pieces)


def write_model(
    output: Path,
    base: Path,
    files: Path,
    dtypes: Mapping[str, str],
    pieces: Callable[[str], Iterable[np.ndarray]],
) -> None:
    """Write a model into the directory `output`, in the shards of the base and with its shapes.

    Args:
        output: an existing directory.
        base: a model directory with the same tensors.
        files: the directory that configuration and tokenizer are copied from.
        dtypes: the type of each tensor, by name.
        pieces: returns the consecutive pieces of a tensor as bit patterns, by its name.
    """
    shard_of, total = {}, 0
    weights = WeightFiles(base)
    for shard, names in weights.shards().items():
        tensors = {name: (dtypes[name], weights.tensors[name].shape) for name in names}
        total += write_safetensors(output / shard, tensors, pieces)
        shard_of |= dict.fromkeys(names, shard)
    if len(set(shard_of.values())) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": shard_of}
        (output / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    for path in files_beside(files, COPIED):
        if path.name not in NOT_COPIED:
            shutil.copyfile(path, output / path.name)
    kinds = set(dtypes.values())
    if (output / "config.json").is_file() and (len(kinds) == 1 or weights.untied):
        config = read_config(output)
        if len(kinds) == 1:
            config["torch_dtype" if "torch_dtype" in config else "dtype"] = kinds.pop()
        if weights.untied:  # said to those readers too that do not compare the tensors
            config["tie_word_embeddings"] = False
        (output / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
