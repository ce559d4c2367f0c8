"""Low-rank adapters (LoRA; Hu et al., ICLR 2022) through peft: added before training, merged into the weights after it.

What later stages see is an ordinary model: the weights with the adapters' product added.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, LoraModel
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from knowshift.finetuning.distributed_tensors import own_part, own_rows
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError

ADAPTER = "default"


@dataclass(frozen=True)
class Lora:
    """What of the adapters changes the result.

    Attributes:
        rank: of the product added to a weight matrix.
        alpha: the product is scaled by alpha / rank.
        dropout: share of an adapter's inputs left out in training.
        targets: names of the linear layers that get one, or "all-linear": all but the output head.
    """

    rank: int
    alpha: float
    dropout: float
    targets: str | Sequence[str]


def add_adapters(model: PreTrainedModel, lora: Lora) -> None:
    """Put adapters into `model`, in place; nothing else is trained from now on. They are not yet initialised.

    Raises:
        KnowshiftError: the model has no layer of those names.
    """
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    try:
        LoraModel(model, {ADAPTER: config}, ADAPTER)
    except ValueError as error:
        raise KnowshiftError(f"finetuning.lora.targets: {str(error).splitlines()[0]}") from None


def initialise_adapters(model: PreTrainedModel, seed: int) -> None:
    """The usual start: the first factor uniform as in a linear layer, by seed and name, the second zero."""
    with torch.no_grad():
        for name, layer in _adapted(model).items():
            first, second = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
            generator = torch.Generator().manual_seed(derive_seed(seed, "lora", name))
            bound = 1 / math.sqrt(first.shape[1])
            values = torch.empty(first.shape).uniform_(-bound, bound, generator=generator)
            own_part(first).copy_(values[own_rows(first)])
            own_part(second).zero_()


def _adapted(model: PreTrainedModel) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def plain_name(name: str) -> str | None:
    """The name that a parameter has without adapters; None for an adapter's own."""
    return None if ".lora_" in name else name.replace(".base_layer.", ".")


def updates(model: PreTrainedModel) -> dict[str, tuple[torch.Tensor, torch.Tensor, float]]:
    """What adapters add to weights, by the weights' plain names: (first, second, scale) of scale * second @ first."""
    return {
        f"{name}.weight": (layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight, layer.scaling[ADAPTER])
        for name, layer in _adapted(model).items()
    }
