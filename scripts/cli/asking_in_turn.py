"""Models that are asked one after another, of which each takes the place of the one before in its engine."""

import argparse
from collections.abc import Callable
from functools import cached_property

import torch
from transformers import PreTrainedModel

from cli.asking import AskedModel
from cli.engines import open_engine
from knowshift.evaluation.options import AskingOptions
from knowshift.generation.interface import GenerationEngine


class AskedInTurn(AskedModel):
    """A model that is asked questions with the engine of the models before it.

    Args:
        arguments, options, device: see `AskedModel`.
        load: loads the first model to a device; from then on, turns the model that the engine runs into this one.
        engines: the engine, once a model has opened one; empty before that.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        options: AskingOptions,
        load: Callable[[torch.device], PreTrainedModel],
        device: torch.device,
        engines: list[GenerationEngine],
    ) -> None:
        super().__init__(arguments, options, load, device)
        self._engines = engines

    @cached_property
    def engine(self) -> GenerationEngine:
        """The engine, which runs this model from its first use on."""
        if self._engines:
            self._load(self._device)
        else:
            self._engines.append(open_engine(self._arguments, self._options, self._device, self._load, False))
        return self._engines[0]
