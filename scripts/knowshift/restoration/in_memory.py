"""Restored models in memory: a fine-tuned model with a part of its changes undone, never written to disk."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import PreTrainedModel

from knowshift.generation.packed_linears import InBlocks, PackedLinear, TransposedLinear, replace_weight
from knowshift.models.loading import DTYPES
from knowshift.models.tuned import with_delta
from knowshift.restoration.undoing import Undoing
from knowshift.weights.bit_patterns import cast
from knowshift.weights.deltas import Delta
from knowshift.weights.stored_places import stored_places, stored_views
from knowshift.weights.torch_bits import as_tensor, bits_of, name_of
from knowshift.weights.versions import Versions

# What a part of a parameter holds: the values of one side as a whole, or those of one restored model.
Content = bool | tuple[str, str, float, int]
TUNED = False  # as `Undoing.whole_side` says it


class RestoredModels:
    """A fine-tuned model in memory, and beside it one that becomes one restored model after another.

    Base and delta are read once. The fine-tuned weights stay in memory until the last model is made; the base is read
    from disk as needed. From one restored model to the next, only the parameters in which they differ are written.

    Args:
        base: the model directory before training.
        delta: the delta directory.
        threads: how many threads work.
        settings: directory with the fine-tuned model's configuration; None if that is the base's.

    Attributes:
        prepared: the strategy, region and seed that `undo` was given last.
        undoings: what each share that `undo` was given undoes, by its percent.

    Raises:
        KnowshiftError: see `Delta`.
    """

    def __init__(self, base: Path, delta: Path, threads: int = 1, settings: Path | None = None) -> None:
        source = Delta(delta, base, threads)
        self._base, self._threads = base, threads
        self._tuned: PreTrainedModel | None = with_delta(base, source, settings)
        self._places = stored_places(self._tuned, source.names())
        views = stored_views(self._tuned, (), self._places)
        tuned = {name: bits_of(view).reshape(-1) for name, view in views.items()}
        dtypes = source.dtypes | {name: name_of(view.dtype) for name, view in views.items()}
        stored = source.base.tensors

        def read(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            before = cast(source.base.piece(name, start, stop), stored[name].dtype, dtypes[name])
            return before, tuned[name][start:stop] if name in tuned else before  # what is no parameter was not trained

        shapes = {name: stored[name].shape for name in source.names()}
        self._versions = Versions(shapes, dtypes, read, source.base.no_parameters)
        self._parts: dict[str, list[str]] = {}  # the stored tensors that a parameter is made of
        for name in sorted(self._places):
            self._parts.setdefault(self._places[name].parameter, []).append(name)
        self._aliases: dict[str, list[str]] = {}  # all names of a parameter, by its first
        first: dict[int, str] = {}
        for name, parameter in self._tuned.named_parameters(remove_duplicate=False):
            self._aliases.setdefault(first.setdefault(id(parameter), name), []).append(name)
        self._held: dict[str, list[Content]] = {name: [TUNED] * len(parts) for name, parts in self._parts.items()}
        self._model: PreTrainedModel | None = None  # the one that becomes each restored model
        self.prepared: tuple[str, str, int] | None = None
        self.undoings: dict[float, Undoing] = {}

    def undo(
        self,
        strategy: str,
        region: str,
        percents: Sequence[float],
        seed: int = 0,
        histogram: pa.Table | None = None,
        others: Sequence[Path] = (),
    ) -> None:
        """Prepare the shares of a strategy, all in one go; what was prepared before is forgotten.

        Args:
            strategy: what is undone, see `strategies.undo`.
            region: whose parameters are restored, see `regions`.
            percents: the shares to undo, each 0 to 100.
            seed: the seed of what is random in the strategy.
            histogram: the histogram of this region's relative changes, see `strategies.undo`.
            others: delta directories of other seeds, see `strategies.undo`.

        Raises:
            KnowshiftError: see `Delta` and `strategies.undo`.
        """
        # Imported here because it loads llvmlite: a process of vLLM imports this module too, and fails beside llvmlite.
        from knowshift.restoration.strategies import undo

        self.undoings, self.prepared = {}, None
        beside = [Delta(other, self._base).versions() for other in others]
        found = undo(self._versions, strategy, region, percents, seed, self._threads, histogram, beside)
        self.undoings, self.prepared = dict(zip(percents, found, strict=True)), (strategy, region, seed)

    def make(self, percent: float, dtype: str, device: torch.device | str, last: bool = False) -> PreTrainedModel:
        """Make the model with one share restored, in the place of the one that was made before.

        An engine may have taken that one over and laid out its linear layers; the engine then runs the new model.

        Args:
            percent: the share, one of those that `undo` was given.
            dtype: the type of the model that is returned, the same with every call; parameters are restored before the
                cast.
            device: the device of the model that is returned, the same with every call.
            last: no other model is made afterwards, so the fine-tuned weights leave the memory. If no model was made
                before, it is made of them, piece by piece in their own memory.

        Returns:
            The model, the same object with every call.
        """
        undoing = self.undoings[percent]
        assert self._tuned is not None and self.prepared is not None  # neither the last one, nor before `undo`
        if self._model is None and last:
            self._restore_in_place(self._tuned, undoing)
            # transformers wraps torch's `to` in a decorator that loses its signature.
            model = self._tuned.to(device, DTYPES[dtype])  # pyright: ignore[reportArgumentType]
        else:
            if self._model is None:
                self._model = _cast_copy(self._tuned, dtype, device)
            self._move(self._model, undoing, DTYPES[dtype])
            model = self._model
        if last:  # or they would be held beside the weights that an engine packs
            self._tuned = self._model = None
            del self._versions
        return model

    def _restore_in_place(self, model: PreTrainedModel, undoing: Undoing) -> None:
        """Turn the fine-tuned model itself into a restored one."""
        parameters = dict(model.named_parameters())
        for name in sorted(self._places.keys() & undoing.names):
            self._write(undoing, name, parameters[self._places[name].parameter].detach())

    def _move(self, model: PreTrainedModel, undoing: Undoing, dtype: torch.dtype) -> None:
        """Write the parameters in which a model differs from a restored one.

        Args:
            model: the model, which holds what `_held` says.
            undoing: the restored model.
            dtype: the type of the model's parameters.
        """
        assert self._tuned is not None and self.prepared is not None
        tuned, modules = dict(self._tuned.named_parameters()), dict(model.named_modules(remove_duplicate=False))
        unlike = (*self.prepared[:2], undoing.percent, self.prepared[2])
        for parameter, parts in self._parts.items():
            wanted: list[Content] = []
            for name in parts:
                side = undoing.whole_side(name) if name in undoing.names else TUNED
                wanted.append(unlike if side is None else side)
            if wanted == self._held[parameter]:
                continue
            value = tuned[parameter].detach()
            if any(content is not TUNED for content in wanted):
                value = value.clone()
                for name, content in zip(parts, wanted, strict=True):
                    if content is not TUNED:
                        self._write(undoing, name, value)
            self._held[parameter] = []  # neither, until all of it is written
            written: set[int] = set()  # of a tied parameter, which an engine may have made two of
            for name in self._aliases[parameter]:
                _put(modules, name, value, dtype, written)
            self._held[parameter] = wanted

    def _write(self, undoing: Undoing, name: str, parameter: torch.Tensor) -> None:
        """Write a stored tensor of a restored model into the parameter that it is a part of, of the fine-tuned type."""
        view = self._places[name].of(parameter)
        flat = bits_of(view).reshape(-1)  # in the parameter's own memory, but for parts that lie scattered
        for start, piece in undoing.restored_pieces(self._versions, name):
            flat[start : start + len(piece)] = piece
        if not view.is_contiguous():
            view.copy_(as_tensor(flat.reshape(view.shape), name_of(view.dtype)))


def _cast_copy(model: PreTrainedModel, dtype: str, device: torch.device | str) -> PreTrainedModel:
    """Copy a model in another type to another device, without a copy in its own type beside it."""
    cast_to = {}
    for parameter in model.parameters():
        kind = DTYPES[dtype] if parameter.is_floating_point() else parameter.dtype
        values = parameter.detach().to(device, kind, copy=True)
        cast_to[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
    copied = copy.deepcopy(model, cast_to)
    return copied.to(device, DTYPES[dtype])  # pyright: ignore[reportArgumentType] (buffers are left to be cast)


def _put(
    modules: Mapping[str, nn.Module], name: str, value: torch.Tensor, dtype: torch.dtype, written: set[int]
) -> None:
    """Write a parameter into a model, into the plain one or into the layer that an engine has made of it.

    Args:
        modules: the modules of the model by name.
        name: the parameter, by one of its names.
        value: its values.
        dtype: the type that the model computes in.
        written: the plain parameters that hold the values already, by `id`; this one is added.
    """
    place, _, attribute = name.rpartition(".")
    layer = modules[place]
    if isinstance(layer, InBlocks):
        layer = layer.layer
    if isinstance(layer, PackedLinear | TransposedLinear) and attribute == "weight":
        replace_weight(layer, value.to(dtype))
        return
    plain = getattr(layer, attribute)
    if id(plain) not in written:
        written.add(id(plain))
        with torch.no_grad():
            plain.copy_(value)
