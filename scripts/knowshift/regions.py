"""Which parameters an analysis ranks together, and where a tensor sits in the model."""

import re

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(.+)\.(?:weight|bias)$")
_NORM = re.compile(r"norm|(?:^|\.)ln_", re.IGNORECASE)
_ATTENTION = re.compile(r"(?:^|\.)(?:self_attn|attn|attention)\.")
_MLP = re.compile(r"(?:^|\.)(?:mlp|feed_forward)\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|lm_head)\.")

REGIONS = ("transformer", "attention", "mlp", "embedding", "all")


def layer_and_module(name: str) -> tuple[int | None, str]:
    """The decoder layer of a tensor (None outside the layers) and its module, such as `mlp.down_proj`."""
    match = _LAYER.search(name)
    return (int(match[1]), match[2]) if match else (None, name.rpartition(".")[0] or name)


def in_region(name: str, region: str) -> bool:
    """Whether a tensor belongs to a region.

    transformer (the paper's): weights and biases inside the decoder layers, normalisation left out; attention and mlp:
    its two parts; embedding: input embedding and output head; all: every tensor.

    Raises:
        ValueError: there is no such region.
    """
    inside = _LAYER.search(name) is not None and _NORM.search(name) is None
    if region == "transformer":
        return inside
    if region == "attention":
        return inside and _ATTENTION.search(name) is not None
    if region == "mlp":
        return inside and _MLP.search(name) is not None
    if region == "embedding":
        return _EMBEDDING.search(name) is not None
    if region == "all":
        return True
    raise ValueError(f"region {region!r} is none of {REGIONS}")
