"""Stored tensors that are one parameter of the model: an output head that is tied to the input embedding.

transformers decides: an architecture says which of its parameters are tied, a configuration whether they are, and a
file that holds different values for two of them unties them.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def model_without_memory(directory: Path) -> "PreTrainedModel | None":
    """Make the model of a directory's configuration, with its parameters tied but without memory for them.

    Returns:
        The model; None if transformers does not know its type, so that it would need code of its own, or cannot make
        it.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

    config = json.loads((directory / "config.json").read_text(encoding="utf-8-sig"))
    if str(config.get("model_type")) not in CONFIG_MAPPING:
        return None
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory, local_files_only=True))
        model.tie_weights()
        return model
    except Exception:  # whatever an architecture raises at a configuration that does not fit it; loading says it
        return None


def may_be_tied(directory: Path) -> bool:
    """Tell whether a configuration leaves it open that parameters are tied; cheap, transformers is not asked."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(config, dict) and config.get("tie_word_embeddings") is not False


def tied_names(directory: Path, names: Iterable[str]) -> list[list[str]]:
    """Find the stored tensors that the architecture and the configuration tie to each other.

    Args:
        directory: model directory.
        names: the names of its stored tensors.

    Returns:
        A list per parameter that several tensors are stored for: their names, the parameter's first name first.
    """
    text = (directory / "config.json").read_text(encoding="utf-8-sig")
    return [[*group] for group in _tied_names(directory, text, tuple(names))]


@lru_cache(maxsize=8)  # a directory is opened several times in a process
def _tied_names(directory: Path, text: str, names: tuple[str, ...]) -> list[list[str]]:
    """Find tied names, see `tied_names`; `text` is the configuration."""
    from knowshift.weights.stored_places import stored_places

    model = model_without_memory(directory)
    if model is None:  # code of its own: the names that most architectures have
        config = json.loads(text)
        both = ["model.embed_tokens.weight", "lm_head.weight"]
        return [both] if config.get("tie_word_embeddings") is True and {*both} <= {*names} else []
    every = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    groups: dict[str, list[str]] = {}
    for name, place in stored_places(model, names).items():
        if place.whole:
            groups.setdefault(place.parameter, []).append(name)

    def rank(name: str) -> int:
        prefixed = (name, f"{model.base_model_prefix}.{name}")
        return min((every.index(one) for one in prefixed if one in every), default=len(every))

    return [sorted(group, key=rank) for group in groups.values() if len(group) > 1]
