"""Fine-tuned weights to disk: adapters merged, tensors gathered one at a time where several processes hold them."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from knowshift.errors import KnowshiftError
from knowshift.lora import plain_name, update_of
from knowshift.model_files import write_model
from knowshift.weights import Weights, writing_order


class Checkpoint:
    """The weights of a model in training, under the names that its base has on disk.

    Args:
        model: with or without adapters, whole or sharded.
        base: the directory it was loaded from.

    Raises:
        KnowshiftError: the model's parameters are stored under other names, so nothing could be compared with the base.
    """

    def __init__(self, model: PreTrainedModel, base: Path) -> None:
        self._model, self._base, self._weights = model, base, Weights(base)
        named = {plain_name(name): parameter for name, parameter in model.named_parameters()}
        self._parameters = {name: parameter for name, parameter in named.items() if name}
        if odd := sorted(set(self._parameters) - set(self._weights.places)):
            raise KnowshiftError(
                f"{base} holds no tensor named {odd[0]}, as the model calls it; this architecture is not supported"
            )

    def whole(self, name: str) -> torch.Tensor:
        """One tensor, gathered and with its adapter merged; all processes must ask for it. What is no parameter is the base's."""
        if name not in self._parameters:
            return self._weights.read(name)
        with torch.no_grad():
            tensor = _gathered(self._parameters[name])
            if update := update_of(self._model, name):
                first, second, scale = update
                tensor = tensor + scale * (_gathered(second) @ _gathered(first))
        return tensor.cpu()

    def save(self, output: Path) -> None:
        """Write an ordinary model directory; only one process does, and the others call `follow` meanwhile."""
        dtypes = {name: place.dtype for name, place in self._weights.places.items()}
        dtypes |= {name: parameter.dtype for name, parameter in self._parameters.items()}

        def pieces(name: str) -> Iterator[torch.Tensor]:
            yield self.whole(name).reshape(-1)

        write_model(output, self._base, self._base, dtypes, pieces)

    def follow(self) -> None:
        """Take part in gathering the tensors that another process saves."""
        dtypes = {name: parameter.dtype for name, parameter in self._parameters.items()}
        for names in self._weights.shards().values():
            for name in writing_order({name: dtypes.get(name, self._weights.places[name].dtype) for name in names}):
                self.whole(name)


def _gathered(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
