"""Where the tensors of a model's files lie in the parameters of the model that transformers makes of them.

transformers renames tensors when it loads them (GPT-NeoX's output head), puts a prefix before their names (GPT-2 as it
lies on the hub), and fuses some into one parameter (the experts of a mixture). Files, deltas and regions keep the names
of the files. Here transformers' own conversion is run backwards, on tensors without memory, and tells which part of
which parameter each stored tensor is. Reading a part and writing it are then plain tensor operations.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    apply_renamings,
    dot_natural_key,
    rename_source_key,
)

from knowshift.runtime.errors import KnowshiftError


@dataclass(frozen=True)
class Place:
    """The part of a parameter that a stored tensor is.

    Attributes:
        parameter: the parameter's name in memory; of several names of one tied parameter, the first.
        shape: the shape of the part, which is the stored tensor's.
        stride, offset: where its elements lie in the parameter, in elements.
        whole: whether the part is the whole parameter.
    """

    parameter: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    whole: bool

    def of(self, parameter: torch.Tensor) -> torch.Tensor:
        """View the part in the parameter (contiguous, on any device); writing to it writes to the parameter."""
        if self.whole:
            return parameter
        assert parameter.is_contiguous()  # what places are told in
        return parameter.as_strided(self.shape, self.stride, self.offset + int(parameter.storage_offset()))


def stored_places(
    model: PreTrainedModel, names: Iterable[str], parameters: Mapping[str, torch.Tensor] | None = None
) -> dict[str, Place]:
    """Find the parameters, or parts of them, that stored tensors are.

    Args:
        model: the model that is made of the tensors; its parameters need no memory.
        names: the names of the stored tensors.
        parameters: all parameters by all of their names, if the model's modules give them others, as adapters do.

    Returns:
        The place of each stored tensor that is a parameter; masks, tables and what the model ignores have none.

    Raises:
        KnowshiftError: transformers rearranges a stored tensor in a way that no part of a parameter can show.
    """
    known = dict(model.named_parameters(remove_duplicate=False)) if parameters is None else dict(parameters)
    first: dict[int, str] = {}
    for name, parameter in known.items():
        first.setdefault(id(parameter), name)
    there = known | dict(model.named_buffers())
    conversions = get_model_conversion_mapping(model)
    renamings = [step for step in conversions if isinstance(step, WeightRenaming)]
    converters = [step for step in conversions if isinstance(step, WeightConverter)]
    places: dict[str, Place] = {}
    fused: dict[str, tuple[str, dict[str, str]]] = {}  # by parameter: the pattern, and stored names by converted ones
    for stored in sorted(names, key=dot_natural_key):
        prefix = model.base_model_prefix
        target, pattern = rename_source_key(stored, renamings, converters, prefix, there)
        if target not in there and stored in there:
            target, pattern = stored, None  # the file holds the names of memory already
        if target not in known:
            continue
        if pattern is None:
            parameter = known[target]
            places[stored] = Place(first[id(parameter)], tuple(parameter.shape), (), 0, True)
        else:
            fused.setdefault(target, (pattern, {}))[1][apply_renamings(stored, renamings)] = stored
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    for target, (pattern, stored_by_name) in fused.items():
        for name, part in _parts(model, by_pattern[pattern], target, known[target].shape):
            prefix = f"{model.base_model_prefix}."
            stored = stored_by_name.get(name) or stored_by_name.get(name.removeprefix(prefix))
            if stored:
                shape, stride, offset = tuple(part.shape), part.stride(), int(part.storage_offset())
                places[stored] = Place(first[id(known[target])], shape, stride, offset, False)
        if lost := sorted(set(stored_by_name.values()) - set(places)):
            raise _rearranged(model, lost[0])
    return places


class _Views(TorchFunctionMode):
    """While it is active, a view stays a view: tensors are not copied to lie contiguously."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is torch.Tensor.contiguous else func(*args, **(kwargs or {}))


def _parts(
    model: PreTrainedModel, converter: WeightConverter, target: str, shape: torch.Size
) -> Iterator[tuple[str, torch.Tensor]]:
    """Take a fused parameter apart as transformers does when it saves: yield the parts, views without memory."""
    whole = torch.empty(shape, device="meta")
    back = converter.reverse_transform()
    assert isinstance(back, WeightConverter)
    name, pattern = back.rename_source_key(target)
    if pattern is None:
        raise _rearranged(model, target)
    back.add_tensor(name, target, pattern, whole)  # pyright: ignore[reportArgumentType] (a tensor, as in saving)
    try:
        with _Views():
            parts = back.convert(name, model=model, config=model.config)
    except Exception:  # an operation that wants other parameters beside this one
        raise _rearranged(model, target) from None
    for part_name, part in parts.items():
        tensor = part[0] if isinstance(part, list) else part
        if tensor is not whole and tensor._base is not whole:
            raise _rearranged(model, target)
        yield part_name, tensor


def _rearranged(model: PreTrainedModel, name: str) -> KnowshiftError:
    kind = model.config.model_type
    return KnowshiftError(
        f"transformers rearranges {name} when it loads a model of the type {kind}, in a way that cannot be followed"
        " here; this type can be asked, but not be fine-tuned"
    )


def stored_views(
    model: PreTrainedModel, names: Iterable[str], places: Mapping[str, Place] | None = None
) -> dict[str, torch.Tensor]:
    """View the parameters of a model as the tensors of its files, by the names of the files; see `stored_places`."""
    parameters = dict(model.named_parameters())
    places = stored_places(model, names) if places is None else places
    return {name: place.of(parameters[place.parameter]) for name, place in places.items()}
