"""Which tensor of a checkpoint made elsewhere is which tensor of its base: prefixes, output head, vocabulary.

Three things may differ between two checkpoints of one model besides values, types and shards. Wrappers of a training
program leave prefixes in names. The vocabulary may have grown: the base's rows come first, and the new rows belong to
the checkpoint alone. And an output head that is the input embedding in the base may have become a tensor of its own,
whose values before training are the embedding's.
"""

import copy
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.bit_patterns import WIDTHS
from knowshift.weights.safetensors_files import StoredTensor, WeightFiles, same_values

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # anywhere in a name
_LEADING = {"base_model", "model", "transformer", "gpt_neox", "language_model"}  # at the start of a name
_INPUT = re.compile(r"(?:^|\.)(?:embed_tokens|wte|embed_in|word_embeddings)\.weight$")
_HEAD = re.compile(r"^(?:lm_head|embed_out)\.(?:weight|bias)$")
_UNMERGED = re.compile(r"\.(?:lora_[AB]|lora_embedding_[AB]|base_layer|modules_to_save|original_module)\b")


def is_vocabulary(name: str) -> bool:
    """Tell from a tensor's name whether it has a row per token of the vocabulary."""
    return _INPUT.search(name) is not None or _HEAD.search(name) is not None


def plain_name(name: str) -> str:
    """Reduce a tensor's name to what it is in every wrapper: `_orig_mod.model.layers.0.…` to `layers.0.…`."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while len(parts) > 2 and parts[0] in _LEADING:
        del parts[0]
    return ".".join(parts)


def rows_beyond(tensor: StoredTensor, rows: int) -> StoredTensor:
    """Return the part of a stored tensor after its first `rows` rows."""
    skipped = rows * math.prod(tensor.shape[1:])
    shape = (tensor.shape[0] - rows, *tensor.shape[1:])
    return replace(tensor, shape=shape, offset=tensor.offset + skipped * WIDTHS[tensor.dtype])


def has_grown(before: tuple[int, ...], after: tuple[int, ...], name: str) -> bool:
    """Tell whether a tensor has the shape that it had before training, with rows for new tokens at its end."""
    return is_vocabulary(name) and bool(before) and after[1:] == before[1:] and after[0] > before[0]


def input_embedding(names: Iterable[str]) -> str | None:
    """Find the name of the input embedding among the names of a model's tensors; None if no or several names fit."""
    found = [name for name in names if _INPUT.search(name)]
    return found[0] if len(found) == 1 else None


def with_own_head(weights: WeightFiles, names: Iterable[str]) -> WeightFiles:
    """Lend the input embedding to an output head that a later version of the model holds as a tensor of its own.

    Args:
        weights: the weights before training.
        names: the names of the tensors after training.

    Returns:
        `weights`, or a copy of them with one more tensor, the head, that is stored where the embedding is.
    """
    heads = [name for name in names if _HEAD.search(name) and name.endswith(".weight") and name not in weights.tensors]
    embedding = input_embedding(weights.tensors)
    if len(heads) != 1 or embedding is None or any(_HEAD.search(name) for name in weights.tensors):
        return weights
    lent = copy.copy(weights)
    lent.tensors = dict(sorted({**weights.tensors, heads[0]: weights.tensors[embedding]}.items()))
    return lent


def check_shapes(
    before: Mapping[str, StoredTensor], after: Mapping[str, StoredTensor], base: Path, tuned: Path
) -> None:
    """Check that the tensors of two versions of a model have the same shapes, apart from rows for new tokens.

    Args:
        before: tensors before training, by name.
        after: tensors after training, by the same names.
        base: the directory before training, for the message.
        tuned: the directory after training, for the message.

    Raises:
        KnowshiftError: names the first tensor of another shape.
    """
    for name, tensor in after.items():
        old, new = before[name].shape, tensor.shape
        if old != new and not has_grown(old, new, name):
            smaller = is_vocabulary(name) and new[1:] == old[1:] and new[0] < old[0]
            reason = "; the vocabulary shrank, and rows that are gone cannot be compared" if smaller else ""
            raise KnowshiftError(f"tensor {name} is {list(old)} in {base} but {list(new)} in {tuned}{reason}")


def pair_tensors(before: WeightFiles, after: WeightFiles, base: Path, tuned: Path, tied: bool) -> dict[str, str]:
    """Find the tensor of a checkpoint that belongs to each tensor of its base.

    Args:
        before: the weights in `base`.
        after: the weights in `tuned`.
        base: the base's directory, for messages.
        tuned: the checkpoint's directory, for messages.
        tied: whether the checkpoint's configuration ties its output head to the input embedding.

    Returns:
        The names in the checkpoint by the names in the base. Masks and tables that only one side has are left out. So
        is a head that holds the values of the checkpoint's embedding, if the base has no head of its own. A head that
        is the embedding in one of the two only is paired with that embedding.

    Raises:
        KnowshiftError: names the first tensor that only one of them has, or whose shapes do not fit.
    """
    if unmerged := next((name for name in after.tensors if _UNMERGED.search(name)), None):
        raise KnowshiftError(
            f"{tuned} holds an adapter that was not merged (tensor {unmerged}); give the folder with"
            " adapter_config.json, or merge it with peft's merge_and_unload before saving"
        )
    old, new = _by_plain_name(before, base), _by_plain_name(after, tuned)
    pairs = {name: new[plain] for plain, name in old.items() if plain in new}
    own = with_own_head(before, new)
    for plain, name in new.items():
        if plain in old or name in after.no_parameters:
            continue
        if plain not in own.tensors:
            raise KnowshiftError(f"{base} and {tuned} are different models: only {tuned} has the tensor {name}")
        embedding = input_embedding(after.tensors)
        if embedding is None or not same_values(after.tensors[name], after.tensors[embedding]):
            pairs[plain] = name
    for plain, name in old.items():
        if name in pairs or name in before.no_parameters:
            continue
        embedding = input_embedding(after.tensors) if tied and _HEAD.search(plain) else None
        if embedding is None:
            raise KnowshiftError(f"{base} and {tuned} are different models: only {base} has the tensor {name}")
        pairs[name] = embedding
    check_shapes(own.tensors, {name: after.tensors[other] for name, other in pairs.items()}, base, tuned)
    return dict(sorted(pairs.items()))


def _by_plain_name(weights: WeightFiles, directory: Path) -> dict[str, str]:
    """Return the names of a model's tensors by their plain names.

    Raises:
        KnowshiftError: two tensors have one plain name.
    """
    found: dict[str, str] = {}
    for name in weights.tensors:
        plain = plain_name(name)
        if plain in found:
            raise KnowshiftError(f"{directory} holds two tensors {plain}: {found[plain]} and {name}; save it anew")
        found[plain] = name
    return found
