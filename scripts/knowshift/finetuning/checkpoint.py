"""Writes fine-tuned weights: adapters are merged, and sharded tensors are gathered one at a time."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from knowshift.finetuning.distributed_tensors import gathered
from knowshift.finetuning.lora import plain_name, updates
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.model_writer import write_parameters
from knowshift.weights.safetensors_files import WeightFiles, writing_order
from knowshift.weights.torch_bits import name_of


class Checkpoint:
    """The weights of a model in training, under the names that its base has on disk.

    Args:
        model: with or without adapters, whole or sharded.
        base: the model directory that it was loaded from.

    Raises:
        KnowshiftError: the base stores the model's parameters under other names, so they could not be compared.
    """

    def __init__(self, model: PreTrainedModel, base: Path) -> None:
        self._base, self._weights, self._updates = base, WeightFiles(base), updates(model)
        named = {plain_name(name): parameter for name, parameter in model.named_parameters()}
        self._parameters = {name: parameter for name, parameter in named.items() if name}
        if odd := sorted(set(self._parameters) - set(self._weights.tensors)):
            raise KnowshiftError(
                f"{base} holds no tensor named {odd[0]}, as the model calls it; this architecture is not supported"
            )

    def whole(self, name: str) -> torch.Tensor:
        """Return one parameter, gathered and with its adapter merged; every process must call this."""
        with torch.no_grad():
            tensor = gathered(self._parameters[name])
            if update := self._updates.get(name):
                first, second, scale = update
                tensor = tensor + scale * (gathered(second) @ gathered(first))
        return tensor

    def save(self, output: Path) -> None:
        """Write an ordinary model directory. One process does this while the others call `follow`."""
        dtypes = {name: parameter.dtype for name, parameter in self._parameters.items()}
        write_parameters(output, self._base, dtypes, self.whole)

    def follow(self) -> None:
        """Take part in gathering the tensors that another process writes, in the order that it writes them."""
        stored = {name: tensor.dtype for name, tensor in self._weights.tensors.items()}
        dtypes = stored | {name: name_of(parameter.dtype) for name, parameter in self._parameters.items()}
        for names in self._weights.shards().values():
            for name in writing_order({name: dtypes[name] for name in names}):
                if name in self._parameters:
                    self.whole(name)
