"""Writes fine-tuned weights: adapters are merged, and sharded tensors are gathered one at a time."""

import math
from collections import Counter
from pathlib import Path

import torch
from transformers import PreTrainedModel

from knowshift.finetuning.distributed_tensors import gathered
from knowshift.finetuning.lora import plain_name, updates
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.model_writer import write_parameters
from knowshift.weights.safetensors_files import WeightFiles, writing_order
from knowshift.weights.stored_places import stored_places
from knowshift.weights.torch_bits import name_of

KEPT = 2  # parameters that are kept whole while the tensors that are parts of them are written


class Checkpoint:
    """The weights of a model in training, under the names that its base has on disk.

    Args:
        model: with or without adapters, whole or sharded.
        base: the model directory that it was loaded from.

    Raises:
        KnowshiftError: the base stores no tensor for a parameter of the model, so they could not be compared.
    """

    def __init__(self, model: PreTrainedModel, base: Path) -> None:
        self._base, self._weights, self._updates = base, WeightFiles(base), updates(model)
        every = model.named_parameters(remove_duplicate=False)
        self._parameters = {plain: parameter for name, parameter in every if (plain := plain_name(name))}
        self._places = stored_places(model, self._weights.names(), self._parameters)
        self._last: dict[str, torch.Tensor] = {}
        stored = Counter[str]()
        for place in self._places.values():
            stored[place.parameter] += math.prod(place.shape)
        covered = {id(self._parameters[name]) for name in stored if stored[name] == self._parameters[name].numel()}
        if lacking := [name for name, parameter in self._parameters.items() if id(parameter) not in covered]:
            raise KnowshiftError(
                f"{base} holds no tensor for the model's parameter {lacking[0]}; fetch the model again"
            )

    def whole(self, name: str) -> torch.Tensor:
        """Return one stored tensor, gathered and with its adapter merged; every process must call this."""
        place = self._places[name]
        with torch.no_grad():
            return place.of(self._whole_parameter(place.parameter, keep=not place.whole))

    def _whole_parameter(self, name: str, keep: bool) -> torch.Tensor:
        """Return one parameter, whole; if several stored tensors are parts of it, it is kept for the next of them."""
        if name in self._last:
            return self._last[name]
        tensor = gathered(self._parameters[name])
        if update := self._updates.get(name):
            tensor = tensor + update.whole()
        tensor = tensor.contiguous()
        if keep:
            self._last = {**dict(list(self._last.items())[-KEPT + 1 :]), name: tensor}
        return tensor

    def save(self, output: Path) -> None:
        """Write an ordinary model directory. One process does this while the others call `follow`."""
        self._last = {}  # of an earlier step, if the model was written before
        write_parameters(output, self._base, self._dtypes(), self.whole)

    def follow(self) -> None:
        """Take part in gathering the tensors that another process writes, in the order that it writes them."""
        self._last = {}
        stored = {name: tensor.dtype for name, tensor in self._weights.tensors.items()}
        dtypes = stored | {name: name_of(dtype) for name, dtype in self._dtypes().items()}
        for names in self._weights.shards().values():
            for name in writing_order({name: dtypes[name] for name in names}):
                if name in self._places:
                    self.whole(name)

    def _dtypes(self) -> dict[str, torch.dtype]:
        return {name: self._parameters[place.parameter].dtype for name, place in self._places.items()}
