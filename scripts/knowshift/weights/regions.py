"""Regions: sets of tensors whose parameters are compared and restored together, told by the names of the tensors."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager

from knowshift.runtime.errors import KnowshiftError, shown
from knowshift.runtime.time_limit import at_most

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(.+?)(?:\.(?:weight|bias))?$")
_NORM = re.compile(r"norm|(?:^|\.)ln_", re.IGNORECASE)
# The encoders of pictures and sounds that a model has beside its text model, and what leads from them to it.
_OTHER_SENSES = re.compile(r"(?:^|\.)(?:vision|visual|image|audio|speech|multi_modal|multimodal)[a-z_]*\.")
_EXPERT = re.compile(r"\bexperts\.\d+\.")
_ATTENTION = re.compile(r"(?:^|\.)(?:self_attn|attn|attention|self_attention)\.")
_MLP = re.compile(r"(?:^|\.)(?:mlp|feed_forward|ffn|fc1|fc2|block_sparse_moe)\.")
_EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|embed_positions|wte|wpe|embed_in|embed_out|word_embeddings|lm_head|tokens_embed"
    r"|positions_embed|output_projection)\.|^(?:backbone\.embeddings|transformer\.w|rwkv\.embeddings|head)\.weight$"
)

REGIONS = ("transformer", "attention", "mlp", "embedding", "all")
_NUMBER = "[0-9]{1,4}"  # no model has ten thousand layers
LAYERS = f"{_NUMBER}(?:-{_NUMBER})?(?:,{_NUMBER}(?:-{_NUMBER})?)*"  # a list of layers, such as 0-3 or 0,5,7-9
LONGEST_PATTERN = 1000  # characters of a regular expression
# Names of tensors as models have them, on which a regular expression is tried before there is a model.
_USUAL_NAMES = (
    "model.embed_tokens.weight",
    "model.layers.11.self_attn.q_proj.weight",
    "model.layers.11.post_attention_layernorm.weight",
    "transformer.h.11.attn.c_attn.bias",
    "model.language_model.layers.31.block_sparse_moe.experts.7.gate_up_proj.weight",
    "lm_head.weight",
)


def layer_and_module(name: str) -> tuple[int | None, str]:
    """Tell a tensor's decoder layer (None outside the layers) and module, such as `mlp.down_proj`, from its name.

    The experts of a mixture are one module, whether the file holds them one by one or together.
    """
    match = _LAYER.search(name) if not _OTHER_SENSES.search(name) else None
    return (int(match[1]), _EXPERT.sub("experts.", match[2])) if match else (None, name.rpartition(".")[0] or name)


def layers_of(region: str) -> set[int] | None:
    """Return the layers that a region such as "0-3" or "0,5,7-9" lists, or None if the region is no such list.

    Raises:
        KnowshiftError: a range ends before it begins.
    """
    if not re.fullmatch(LAYERS, region):
        return None
    layers: set[int] = set()
    for part in region.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            raise KnowshiftError(f"region {region}: the layers {part} end before they begin")
        layers.update(range(int(first), int(last or first) + 1))
    return layers


def check_pattern(pattern: str) -> None:
    """Check a regular expression over tensor names: that it is one, and that it is searched for in bounded time.

    Raises:
        KnowshiftError: it is none, it is too long, or it takes too long on names that models have.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise KnowshiftError(f"a regular expression of {len(pattern):,} characters; at most {LONGEST_PATTERN} are read")
    with _in_time(pattern):
        for name in _USUAL_NAMES:
            _search(pattern, name)


def _search(pattern: str, name: str) -> bool:
    """Tell whether a regular expression is found in a name."""
    try:
        return re.search(pattern, name) is not None
    except (re.error, RecursionError, OverflowError) as error:
        raise KnowshiftError(f"{shown(pattern)} is no regular expression: {error}") from None


def _in_time(pattern: str) -> AbstractContextManager[None]:
    """Bound the time of searches for a regular expression: one with nested repetitions may take hours on a name."""
    return at_most(f"the regular expression {shown(pattern)} takes too long on names of tensors; write it more simply")


def in_region(name: str, region: str) -> bool:
    """Check whether the tensor `name` belongs to `region`.

    Args:
        name: the tensor's name.
        region: one of
            - transformer (the paper's region): weights and biases inside the decoder layers, normalisation left out;
              this and the next four leave out the encoders of pictures and sounds, which no text goes through;
            - mlp: the part of transformer in the feed-forward blocks;
            - attention: the attention blocks, with their norms of queries and keys, as in the authors' tool;
            - a list of layers ("0-3", "0,5,7-9"): the part of transformer in these layers;
            - embedding: input embedding and output head;
            - all: every tensor;
            - any other text: a regular expression that is searched for in the tensor's name.

    Raises:
        KnowshiftError: the text is no regular expression either.
    """
    of_text = _OTHER_SENSES.search(name) is None
    in_layer = of_text and _LAYER.search(name) is not None
    inside = in_layer and _NORM.search(name) is None
    if region == "transformer":
        return inside
    if region == "attention":
        return in_layer and _ATTENTION.search(name) is not None
    if region == "mlp":
        return inside and _MLP.search(name) is not None
    if region == "embedding":
        return of_text and _EMBEDDING.search(name) is not None
    if region == "all":
        return True
    layers = layers_of(region)
    if layers is not None:
        return inside and layer_and_module(name)[0] in layers
    return _search(region, name)


def names_in_region(names: Sequence[str], region: str) -> list[str]:
    """Select the tensors of a region, in the order of `names`.

    Args:
        names: the names of all tensors of the model.
        region: see `in_region`.

    Raises:
        KnowshiftError: the region is empty, or lists a layer that the model lacks.
    """
    there = {layer_and_module(name)[0] for name in names} - {None}
    if beyond := sorted((layers_of(region) or set()) - there):
        raise KnowshiftError(f"region {region}: the model has no layer {beyond[0]}; it has {len(there)}, from 0")
    with _in_time(region):
        chosen = [name for name in names if in_region(name, region)]
    if not chosen:
        raise KnowshiftError(
            f"no tensor is in the region {region!r}; allowed are {', '.join(REGIONS)}, layers such as 0-3, or a regular"
            f" expression that is found in tensor names such as {names[0] if names else '(this model has none)'}"
        )
    return chosen
