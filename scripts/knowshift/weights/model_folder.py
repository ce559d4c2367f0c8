"""Which files of a folder are the weights of the model in it.

Every reader of weights asks here, so that all of them read the files that transformers loads, and refuse the same: two
sets of weights, an adapter beside them or alone, quantised weights, and an index that is not one.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from knowshift.runtime.errors import KnowshiftError, shown
from knowshift.runtime.json_files import read_json_object

SINGLE = "model.safetensors"  # the weights in one file
INDEX = "model.safetensors.index.json"  # in a directory of several shards: which of them holds which tensor
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER = "adapter_config.json"  # peft's; transformers loads the adapter on top of the weights beside it
_DISTRIBUTED = re.compile(r"shard-[0-9]{5}-model-[0-9]{5}-of-[0-9]{5}\.safetensors$")
# Keys of a configuration that say how many parts a model is made of.
_REPEATED = re.compile("(?:^|_)(?:layers?|blocks?|experts?|depth)$|^n(?:um)?_.*(?:layer|block|expert)")
MOST_PARTS = 100_000
# The attention of models that are made to be looked at. A configuration may name another: code on the hub.
PLAIN = "eager"
# How methods of quantisation are written; others are named as their configuration names them.
_METHODS = {
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "fbgemm_fp8": "FP8",
    "fp8": "FP8",
    "gptq": "GPTQ",
    "mxfp4": "MXFP4",
}


class WeightSet(NamedTuple):
    """The files that hold the weights of a model: their names, sorted, and the file of each tensor if an index says."""

    files: list[str]
    shard_of: Mapping[str, str] | None


def weight_set(directory: Path) -> WeightSet:
    """Find the files that hold the weights of the model in a folder, and check that they are all there.

    Raises:
        KnowshiftError: there are no weights, or two sets of them; they are quantised; an adapter is there, or anything
            else that would be loaded; or the index is damaged, or names a file that is missing or not in the folder.
    """
    single, index = (directory / SINGLE).is_file(), (directory / INDEX).is_file()
    if (directory / ADAPTER).is_file():
        merge = "merge it into its model with peft's merge_and_unload, save that with save_pretrained, and use it"
        if single or index:
            raise KnowshiftError(
                f"{directory} holds an adapter ({ADAPTER}) beside the weights, which transformers would load on top of"
                f" them; take it out of the folder, or {merge}"
            )
        raise KnowshiftError(f"{directory} holds an adapter ({ADAPTER}) and no model; {merge}")
    if not single and not index:
        raise KnowshiftError(
            f"{directory} holds no weights: neither {SINGLE} nor {INDEX}; save the model there with save_pretrained"
        )
    _check_nothing_instead(directory)
    _check_configuration(directory)
    if not index:
        return WeightSet([SINGLE], None)
    shard_of = read_index(directory / INDEX)
    files = sorted(set(shard_of.values()))
    if single and files != [SINGLE]:
        raise KnowshiftError(
            f"{directory} holds two sets of weights, {SINGLE} and the {len(files)} files that {INDEX} names; take one"
            " of them out of the folder"
        )
    for name in files:
        if not (directory / name).is_file():
            raise KnowshiftError(
                f"{directory / INDEX} names {name}, which does not exist; fetch or save the model anew"
            )
    return WeightSet(files, shard_of)


def read_config(directory: Path) -> dict[str, Any]:
    """Read the configuration of the model in a folder; empty if it has none.

    Raises:
        KnowshiftError: config.json is damaged.
    """
    path, remedy = directory / "config.json", "fetch or save the model anew"
    try:
        config = read_json_object(path, remedy)
    except FileNotFoundError:
        return {}
    if not isinstance(config.get("model_type", ""), str):
        raise KnowshiftError(f"{path} states the model_type {shown(config['model_type'])}, which is no name; {remedy}")
    return config


def read_index(path: Path) -> dict[str, str]:
    """Read which file holds which tensor.

    Args:
        path: the index of a model's shards.

    Raises:
        KnowshiftError: it has no weight_map, or names what is no safetensors file in its own folder.
    """
    shard_of = read_json_object(path, "fetch or save the model anew").get("weight_map")
    if not (isinstance(shard_of, dict) and shard_of):
        raise KnowshiftError(f"{path} is damaged (it has no weight_map); fetch or save the model anew")
    for name in shard_of.values():
        plain = isinstance(name, str) and name.isprintable() and PurePath(name).name == name and "\\" not in name
        if not plain or not name.endswith(".safetensors"):
            raise KnowshiftError(
                f"{path} names the file {name!r}, but the weights must be *.safetensors in the same folder; fetch or"
                " save the model anew"
            )
    return shard_of


def files_beside(directory: Path, patterns: Iterable[str]) -> list[Path]:
    """List the files of a model folder that go along with its weights, such as its tokenizer, sorted.

    Args:
        directory: the folder.
        patterns: the files, by patterns of their names.

    Raises:
        KnowshiftError: one is a link that leads nowhere, or out of the folder. Whoever made the folder would choose a
            file of the user's, and it would be copied into every model that is made of this one.
    """
    named = {file for pattern in patterns for file in directory.glob(pattern)}
    if lost := sorted(file for file in named if file.is_symlink() and not file.exists()):
        raise KnowshiftError(f"{lost[0]} is a link that leads nowhere; fetch what it named, or remove it")
    found = sorted(file for file in named if file.is_file())
    place = directory.resolve()
    allowed = (place, place.parent.parent / "blobs")  # the hub's cache keeps the files of its folders there
    for file in found:
        if file.is_symlink() and not file.name.endswith(".safetensors"):  # of weights the content tells what they are
            target = file.resolve()
            if not any(folder in target.parents for folder in allowed):
                raise KnowshiftError(
                    f"{file} is a link to {target}, which lies outside the model's folder; put a copy in its place if"
                    " that file belongs to the model"
                )
    return found


def _check_nothing_instead(directory: Path) -> None:
    """Check that a folder holds nothing that transformers would load instead of the weights that are read here."""
    if named := read_config(directory).get("transformers_weights"):
        raise KnowshiftError(
            f"{directory / 'config.json'} names {shown(named)} (transformers_weights), which transformers would load"
            " instead of the weights beside it; take out that key, or save the model anew with save_pretrained"
        )
    for path in directory.iterdir():
        if _DISTRIBUTED.match(path.name):
            raise KnowshiftError(
                f"{path} is part of a distributed checkpoint, which transformers would load instead of the weights"
                " beside it; take it out of the folder, or save the model anew with save_pretrained"
            )


def _check_configuration(directory: Path) -> None:
    """Check that a configuration, or one inside it, states no quantisation, no code of the hub, no layers without end.

    Raises:
        KnowshiftError: names the key and its value.
    """
    config = read_config(directory)
    inside = [part for part in config.values() if isinstance(part, dict)]
    for part in (config, *inside):
        for key, value in part.items():
            if key.endswith(("_implementation", "_implementation_internal")) and "/" in str(value):
                raise KnowshiftError(
                    f"{directory / 'config.json'} states {shown(key)}: {shown(value)}, which is code on the hub, and"
                    " transformers would run it; take out that key"
                )
            if _REPEATED.search(key) and isinstance(value, int) and value > MOST_PARTS:
                raise KnowshiftError(
                    f"{directory / 'config.json'} states {shown(key)}: {shown(value)}, and no model has more than"
                    f" {MOST_PARTS:,}; fetch or save the model anew"
                )
        for key in ("quantization_config", "compression_config"):
            if stated := part.get(key):
                given = stated.get("quant_method") if isinstance(stated, dict) else None
                method = _METHODS.get(given, given) if isinstance(given, str) else key
                raise quantised(directory, method)


def quantised(directory: Path, method: str) -> KnowshiftError:
    """Make the error for weights that are quantised, so that what is stored is not what the model computes with."""
    return KnowshiftError(
        f"the weights in {directory} are quantised ({method}), so changes of them cannot be measured or undone; use the"
        " model's original weights in bfloat16, float16 or float32"
    )
