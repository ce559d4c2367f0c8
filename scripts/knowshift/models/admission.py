"""Whether the tensors in a folder are those of its model, so that none of it becomes random when it is loaded."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig
from transformers.utils import logging as transformers_logging

from knowshift.runtime.artefacts import MANIFEST
from knowshift.runtime.errors import KnowshiftError, first_line
from knowshift.runtime.json_files import read_json_object
from knowshift.runtime.scarcity import lack_of
from knowshift.weights.model_folder import PLAIN, quantised, read_config
from knowshift.weights.safetensors_files import WeightFiles

ADMISSION = "admission"  # key of a model's manifest: what was found out when the model was tried
NAMED = 3  # tensors that a message names
_WRAPPERS = re.compile(r"^(?:_orig_mod\.|module\.|_fsdp_wrapped_module\.|base_model\.model\.)+")


def check_admission(directory: Path) -> None:
    """Check that transformers would find every parameter of a model in its folder, and nothing there that is not in it.

    transformers itself is asked, with tensors that have a type and a shape and no content: it renames, splits and fuses
    them as it would the real ones. So this takes no memory, and well under a second for most models. A model with code
    of its own is not made here; `load_model` checks it.

    Args:
        directory: model directory.

    Raises:
        KnowshiftError: as `WeightFiles`; transformers cannot make the model; or tensors are missing, left over, of
            another shape, or stored as integers.
    """
    weights = WeightFiles(directory)
    config = read_config(directory)
    if str(config.get("model_type")) not in CONFIG_MAPPING or "auto_map" in config:
        return
    tensors = {
        name: torch.empty(stored.shape, dtype=getattr(torch, stored.dtype), device="meta")
        for name, stored in weights.tensors.items()
    }
    with one_line(directory), silent_loading():
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
        if kind is None:
            raise KnowshiftError(
                f"transformers has no causal language model of the type {config.model_type}, which {directory} is of;"
                " use a model that continues a text"
            )
        model, found = kind.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            device_map={"": "meta"},
            attn_implementation=PLAIN,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    check_loaded(directory, found, weights.no_parameters)
    parameters, prefix = dict(model.named_parameters(remove_duplicate=False)), f"{model.base_model_prefix}."
    for name, stored in weights.tensors.items():
        if "float" not in stored.dtype and {name, prefix + name, name.removeprefix(prefix)} & set(parameters):
            raise quantised(directory, f"parameter {name} is stored as {stored.dtype}")


def tried(directory: Path) -> dict[str, Any]:
    """Return what was found out of a model when it was taken over, as its manifest says; empty if it was not tried."""
    try:
        found = read_json_object(directory / MANIFEST).get(ADMISSION)
    except (FileNotFoundError, KnowshiftError):  # damage is reported where files are checked against the manifest
        return {}
    return found if isinstance(found, dict) else {}


def check_loaded(directory: Path, found: Mapping[str, Collection[Any]], no_parameters: Collection[str] = ()) -> None:
    """Check what transformers says of a model that it loaded: all tensors were there, and it knew them all.

    Args:
        directory: the model directory, for the message.
        found: the loading information of `from_pretrained`, with mismatched sizes ignored.
        no_parameters: stored tensors that are known to be masks and tables; it does not matter whether the model has
            a place for them.

    Raises:
        KnowshiftError: names some of the tensors that are missing, left over, or of another shape.
    """
    missing = sorted(found["missing_keys"])
    extra = sorted(set(found["unexpected_keys"]) - set(no_parameters))
    remedy = "save the whole model anew with save_pretrained"
    prefixes = {match[0] for name in extra if (match := _WRAPPERS.match(name))}
    if missing and len(prefixes) == 1 and all(name.startswith(tuple(prefixes)) for name in extra):
        (prefix,) = prefixes
        raise KnowshiftError(
            f"the names of the tensors in {directory} begin with {prefix!r}, as of a model that was saved within a"
            " wrapper; save the model inside it with save_pretrained"
        )
    if missing:
        raise KnowshiftError(
            f"{directory} lacks {_some(missing)} of its model, which would be random"
            + (f", and holds {_some(extra)} that the model does not know" if extra else "")
            + f"; {remedy}, or correct its config.json"
        )
    if extra:
        raise KnowshiftError(
            f"{directory} holds {_some(extra)} that its model does not know, so it is not the model that config.json"
            f" states; {remedy}, or correct its config.json"
        )
    if mismatched := sorted(found["mismatched_keys"]):
        name, stored, wanted = mismatched[0]
        raise KnowshiftError(
            f"{directory} holds {len(mismatched)} tensors of other shapes than its config.json makes (one is {name},"
            f" {list(stored)} for {list(wanted)}); {remedy}, or correct its config.json"
        )
    if found.get("error_msgs"):
        raise KnowshiftError(f"transformers cannot load {directory}: {first_line(found['error_msgs'])}")


def _some(names: list[str]) -> str:
    """Name some of many tensors, with their number."""
    shown = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''} ({shown})"


@contextmanager
def one_line(directory: Path, what: str = "a causal language model") -> Iterator[None]:
    """Turn whatever transformers raises at a model folder into one line; a lack of memory or of disk stays what it is.

    Args:
        directory: the model folder.
        what: what is made of it, for the message.

    Raises:
        KnowshiftError: transformers could not make it.
    """
    try:
        yield
    except KnowshiftError:
        raise
    except Exception as error:  # an architecture may raise anything at a configuration that does not fit it
        if lack_of(error):
            raise
        raise KnowshiftError(
            f"transformers cannot make {what} of {directory}: {first_line(error)}; correct its files"
        ) from None


@contextmanager
def silent_loading() -> Iterator[None]:
    """Keep transformers from reporting what it loads, in many lines and a bar: what is wrong is said in one line."""
    level, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()
