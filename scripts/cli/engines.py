"""Opens the generation engine that a script's options name, on the device that it was given."""

import argparse
import os
from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from knowshift.configuration.generating import Generating
from knowshift.generation.generate_engine import GenerateEngine
from knowshift.generation.interface import GenerationEngine
from knowshift.generation.torch_engine import Engine


def open_engine(
    arguments: argparse.Namespace,
    options: Generating,
    device: torch.device,
    load: Callable[[torch.device], PreTrainedModel],
    as_stored: bool,
) -> GenerationEngine:
    """Load the model and open the engine on it.

    Args:
        arguments: the script's; model, threads and gpus are read.
        options: the engine, its number format, and the tokens of a forward pass.
        device: the device that this process leased.
        load: loads the model to a device. For vLLM that is main memory, because vLLM wants the GPU to itself.
        as_stored: whether the model is the one in the directory `arguments.model`, which vLLM then reads itself.
    """
    if options.engine == "generate":
        return GenerateEngine(load(device), options.tokens_per_pass)
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
