"""Restored models in memory: a fine-tuned model with a part of its changes undone, never written to disk."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel

from knowshift.models.loading import DTYPES
from knowshift.models.tuned import with_delta
from knowshift.weights.bit_patterns import cast
from knowshift.weights.deltas import Delta
from knowshift.weights.stored_places import stored_places, stored_views
from knowshift.weights.torch_bits import as_tensor, bits_of, name_of
from knowshift.weights.versions import Versions


class RestoredModels:
    """A fine-tuned model in memory, from which models with shares of a region restored are made, one after another.

    Base and delta are read once, and all shares are prepared in one go. The fine-tuned weights stay in memory until the
    last model is made; the base is read from disk as needed.

    Args:
        base: the model directory before training.
        delta: the delta directory.
        strategy: what is undone, see `undo`.
        region: whose parameters are restored, see `regions`.
        percents: the shares to undo, each 0 to 100.
        seed: the seed of what is random in the strategy.
        threads: how many threads work.
        histogram: the histogram of this region's relative changes, see `undo`.
        settings: directory with the fine-tuned model's configuration; None if that is the base's.
        others: delta directories of other seeds, see `undo`.

    Attributes:
        undoings: what each share undoes, by its percent.

    Raises:
        KnowshiftError: see `Delta` and `undo`.
    """

    def __init__(
        self,
        base: Path,
        delta: Path,
        strategy: str,
        region: str,
        percents: Sequence[float],
        seed: int,
        threads: int = 1,
        histogram: pa.Table | None = None,
        settings: Path | None = None,
        others: Sequence[Path] = (),
    ) -> None:
        # Imported here because it loads llvmlite: a process of vLLM imports this module too, and fails beside llvmlite.
        from knowshift.restoration.strategies import undo

        source = Delta(delta, base, threads)
        self._model = with_delta(base, source, settings)
        self._places = stored_places(self._model, source.names())
        views = self._views(self._model)
        tuned = {name: bits_of(view).reshape(-1) for name, view in views.items()}
        dtypes = source.dtypes | {name: name_of(view.dtype) for name, view in views.items()}
        stored = source.base.tensors

        def read(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            before = cast(source.base.piece(name, start, stop), stored[name].dtype, dtypes[name])
            return before, tuned[name][start:stop] if name in tuned else before  # what is no parameter was not trained

        shapes = {name: stored[name].shape for name in source.names()}
        self._versions = Versions(shapes, dtypes, read, source.base.no_parameters)
        beside = [Delta(other, base).versions() for other in others]
        found = undo(self._versions, strategy, region, percents, seed, threads, histogram, beside)
        self.undoings = dict(zip(percents, found, strict=True))

    def make(self, percent: float, dtype: str, device: torch.device | str, last: bool = False) -> PreTrainedModel:
        """Make the model with one share restored.

        Args:
            percent: the share, one of those that were given.
            dtype: the type of the model that is returned; parameters are restored before the cast.
            device: the device of the model that is returned.
            last: make it of the fine-tuned weights themselves, piece by piece in their own memory, instead of a copy.
                No other model can be made afterwards.
        """
        undoing = self.undoings[percent]
        model = self._model if last else copy.deepcopy(self._model)
        views = self._views(model)
        for name in views.keys() & undoing.names:
            flat = bits_of(views[name]).reshape(-1)  # in the parameter's own memory, but for parts that lie scattered
            for start, piece in undoing.restored_pieces(self._versions, name):
                flat[start : start + len(piece)] = piece
            if not views[name].is_contiguous():
                with torch.no_grad():
                    views[name].copy_(as_tensor(flat.reshape(views[name].shape), name_of(views[name].dtype)))
        if last:
            del self._model, self._versions  # or they would hold the weights beside those that an engine packs
        # transformers wraps torch's `to` in a decorator that loses its signature.
        return model.to(device, DTYPES[dtype])  # pyright: ignore[reportArgumentType]

    def _views(self, model: PreTrainedModel) -> dict[str, torch.Tensor]:
        """View a model's parameters as the tensors of its files, by their names there."""
        return stored_views(model, (), self._places)
