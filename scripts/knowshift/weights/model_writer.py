"""Writing model directories that transformers loads, piece by piece: no tensor need be in memory whole."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from knowshift.weights.counterparts import input_embedding, with_own_head
from knowshift.weights.model_folder import files_beside, read_config
from knowshift.weights.safetensors_files import INDEX, StoredTensor, WeightFiles, read_piece, write_safetensors
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
    added: Mapping[str, StoredTensor] | None = None,
) -> None:
    """Write a model into the directory `output`, in the shards of the base and with its shapes.

    Args:
        output: an existing directory.
        base: a model directory with the same tensors; its output head may be its input embedding.
        files: the directory that configuration and tokenizer are copied from.
        dtypes: the type of each tensor, by name.
        pieces: returns the consecutive pieces of a tensor as bit patterns, by its name.
        added: where rows are stored that follow a tensor's own, in its type, by name.
    """
    shard_of, total, rows = {}, 0, added or {}
    stored = WeightFiles(base)
    weights = with_own_head(stored, dtypes)

    def all_pieces(name: str) -> Iterator[np.ndarray]:
        yield from pieces(name)
        if name in rows:
            yield read_piece(rows[name])

    def shape_of(name: str) -> tuple[int, ...]:
        shape = weights.tensors[name].shape
        return (shape[0] + rows[name].shape[0], *shape[1:]) if name in rows else shape

    for shard, names in weights.shards().items():
        tensors = {name: (dtypes[name], shape_of(name)) for name in names}
        total += write_safetensors(output / shard, tensors, all_pieces)
        shard_of |= dict.fromkeys(names, shard)
    if len(set(shard_of.values())) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": shard_of}
        (output / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    for path in files_beside(files, COPIED):
        if path.name not in NOT_COPIED:
            shutil.copyfile(path, output / path.name)
    changed: dict = {}
    kinds, embedding = set(dtypes.values()), input_embedding(weights.tensors)
    if embedding is not None and embedding in rows:
        changed["vocab_size"] = shape_of(embedding)[0]
    if weights is not stored or weights.untied:  # said to those readers too that do not compare the tensors
        changed["tie_word_embeddings"] = False
    _adjust_config(output, changed, kinds.pop() if len(kinds) == 1 else None)


def _adjust_config(model: Path, changed: Mapping, kind: str | None) -> None:
    """Let a model's configuration, where it has one, say what was written: `changed`, and the one type of weights."""
    path = model / "config.json"
    if not path.is_file() or (kind is None and not changed):
        return
    config = {**read_config(model), **changed}
    if kind is not None:
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = kind
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
