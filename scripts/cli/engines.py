"""Opens the generation engine that a script's options name, on the device that it was given."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedModel

from knowshift.allowed_values import Attention, Dtype, EngineName
from knowshift.generation.generate_engine import GenerateEngine
from knowshift.generation.interface import GenerationEngine
from knowshift.generation.torch_engine import Engine
from knowshift.models.admission import tried
from knowshift.models.loading import use_attention
from knowshift.runtime.errors import KnowshiftError


class Computing(Protocol):
    """What `open_engine` has to know of any script's options: the settings `Generating`, and the attention."""

    @property
    def engine(self) -> EngineName:
        """The engine that generates."""
        ...

    @property
    def dtype(self) -> Dtype:
        """The number format that it computes in."""
        ...

    @property
    def tokens_per_pass(self) -> int:
        """The number of tokens of a forward pass."""
        ...

    @property
    def attention(self) -> Attention:
        """The attention of the engine generate."""
        ...


def check_engine(directory: Path, engine: str) -> None:
    """Check that an engine runs a model, as far as it was tried when the model was taken over.

    Raises:
        KnowshiftError: the manifest of the model lists engines that run it, and this one is not among them.
    """
    engines = tried(directory).get("engines")
    if engine != "vllm" and isinstance(engines, list) and engine not in engines:
        raise KnowshiftError(f"engine: {engine} cannot run {directory}; set engine: {' or '.join(engines) or 'vllm'}")


def open_engine(
    arguments: argparse.Namespace,
    options: Computing,
    device: torch.device,
    load: Callable[[torch.device], PreTrainedModel],
    as_stored: bool,
) -> GenerationEngine:
    """Load the model and open the engine on it.

    Args:
        arguments: the script's; model, threads and gpus are read.
        options: the engine, its number format, the tokens of a forward pass, and the attention of generate.
        device: the device that this process leased.
        load: loads the model to a device. For vLLM that is main memory, because vLLM wants the GPU to itself.
        as_stored: whether the model is the one in the directory `arguments.model`, which vLLM then reads itself.
    """
    check_engine(arguments.model, options.engine)
    if options.engine == "generate":
        model = load(device)
        use_attention(model, options.attention)
        return GenerateEngine(model, options.tokens_per_pass)
    if options.engine == "torch":
        return Engine(load(device), options.tokens_per_pass, arguments.threads)
    from knowshift.generation.vllm_engine import VllmEngine

    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # A new process, not a fork of this one: where llvmlite is loaded, as by restoring, vLLM for CPUs fails.
    os.environ.setdefault("VLLM_WORKER_MULTIPROCESSING_METHOD", "spawn")
    if arguments.gpus <= 1 and device.index is not None:  # the leased one, and no other
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # the index counts among these
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[device.index] if visible else str(device.index)
    model = arguments.model if as_stored else (load(torch.device("cpu")), arguments.model)
    return VllmEngine(model, options.dtype, options.tokens_per_pass, max(1, arguments.gpus))
