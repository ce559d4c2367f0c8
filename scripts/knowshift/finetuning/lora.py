"""Low-rank adapters (LoRA; Hu et al., ICLR 2022) through peft: added before training, merged into the weights after it.

Later stages see an ordinary model, whose weights have the product of the adapters added.
"""

import math
import warnings
from collections import Counter
from typing import cast

import torch
from peft import LoraConfig, LoraModel
from peft.tuners.lora import LoraLayer
from torch.func import functional_call
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from knowshift.configuration.finetuning import LoraSettings
from knowshift.finetuning.distributed_tensors import gathered, own_part, own_rows
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError, first_line

ADAPTER = "default"  # peft's name for the only adapter of a model


def add_adapters(model: PreTrainedModel, lora: LoraSettings) -> None:
    """Add adapters to `model`, in place, and freeze all other parameters. The adapters are not initialised yet.

    Raises:
        KnowshiftError: the model has no layer of those names, one of them is tied to another layer or holds the weights
            of experts, or the rank is larger than that of any of their weights.
    """
    _check_rank(model, lora)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=cast(int, lora.alpha),  # declared int, and only ever divided by the rank
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type="CAUSAL_LM",
    )
    tied = _tied(model)
    try:
        with warnings.catch_warnings():  # peft's advice on tied layers; they are refused below
            warnings.simplefilter("ignore")
            LoraModel(model, {ADAPTER: config}, ADAPTER)
    except ValueError as error:
        raise KnowshiftError(f"finetuning.lora.targets: {first_line(error)}") from None
    for name, layer in _adapted_layers(model).items():
        weight = getattr(layer.get_base_layer(), "weight", None)
        if weight is None:
            raise KnowshiftError(
                f"finetuning.lora.targets: {name} holds the weights of several experts, whose adapters cannot be"
                " merged; name other layers, such as q_proj"
            )
        if id(weight) in tied:
            raise KnowshiftError(
                f"finetuning.lora.targets: {name} shares its weight with another layer of this model, and an adapter"
                " would part them; leave it out"
            )


def _check_rank(model: PreTrainedModel, lora: LoraSettings) -> None:
    """Check that an adapter is no larger than what it adapts, before memory for adapters is taken.

    A weight of shape (m, n) has at most rank min(m, n), so an adapter of a larger rank only takes memory. It is refused
    where no layer has so much; layers that have less among others that have it are adapted all the same.
    """
    output = model.get_output_embeddings()
    ranks = {
        name: min(layer.weight.shape)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear | Conv1D)
        and (
            layer is not output
            if lora.targets == "all-linear"
            else any(name == target or name.endswith(f".{target}") for target in lora.targets)
        )
    }
    if ranks and lora.rank > max(ranks.values()):
        widest = max(ranks, key=lambda name: ranks[name])
        raise KnowshiftError(
            f"finetuning.lora.rank is {lora.rank:,}, but no layer that gets an adapter has a larger rank than"
            f" {ranks[widest]:,} ({widest}); take less, or method: full"
        )


def initialise_adapters(model: PreTrainedModel, seed: int) -> None:
    """Set adapters to their usual start: the first factor uniform as in a linear layer, the second zero.

    What a layer gets depends on the seed and the layer's name alone.
    """
    with torch.no_grad():
        for name, layer in _adapted_layers(model).items():
            first, second = _factors(layer)
            generator = torch.Generator().manual_seed(derive_seed(seed, "lora", name))
            bound = 1 / math.sqrt(first.shape[1])
            values = torch.empty(first.shape).uniform_(-bound, bound, generator=generator)
            own_part(first).copy_(values[own_rows(first)])
            own_part(second).zero_()


def _adapted_layers(model: PreTrainedModel) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _tied(model: PreTrainedModel) -> set[int]:
    """Return the ids of the parameters that several layers share, such as a tied output head."""
    ids = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    return {key for key, count in ids.items() if count > 1}


def _factors(layer: LoraLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors of a layer's update: A, which reads the layer's inputs, and B, which writes its outputs."""
    if ADAPTER in layer.lora_embedding_A:
        return layer.lora_embedding_A[ADAPTER], layer.lora_embedding_B[ADAPTER]
    first, second = (cast(torch.nn.Linear, factors[ADAPTER]) for factors in (layer.lora_A, layer.lora_B))
    return first.weight, second.weight


def plain_name(name: str) -> str | None:
    """Return the name that a parameter has in a model without adapters; None for an adapter's own parameters."""
    return None if ".lora_" in name else name.replace(".base_layer.", ".")


class Update(torch.nn.Module):
    """What the adapter of a layer adds to its weight, as peft computes it when it merges."""

    def __init__(self, layer: LoraLayer) -> None:
        """Keep the layer, whose factors may be sharded."""
        super().__init__()
        self.layer = layer

    def forward(self) -> torch.Tensor:
        """Compute the update, in the shape of the weight."""
        return self.layer.get_delta_weight(ADAPTER)  # pyright: ignore[reportAttributeAccessIssue]

    def whole(self) -> torch.Tensor:
        """Compute the update from gathered factors; every process must call this."""
        factors = {name: gathered(factor) for name, factor in self.named_parameters() if ".lora_" in name}
        return functional_call(self, factors, ())


def updates(model: PreTrainedModel) -> dict[str, Update]:
    """Return what adapters add to weights, by the weights' plain names."""
    return {f"{name}.weight": Update(layer) for name, layer in _adapted_layers(model).items()}
