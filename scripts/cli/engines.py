"""The engine of generation that a script's options name, opened on what its arguments allow."""

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from knowshift.generation.torch_engine import Engine

if TYPE_CHECKING:
    from knowshift.generation.vllm_engine import VllmEngine


def open_engine(
    arguments: argparse.Namespace,
    options: Any,
    device: torch.device,
    load: Callable[[torch.device], PreTrainedModel],
    as_it_is: bool,
) -> "Engine | VllmEngine":
    """An engine.

    Args:
        arguments: the script's, with model, threads and gpus.
        options: the script's, with engine, dtype and rows.
        device: that this process leased.
        load: gives the model, on a device. vLLM wants the GPU to itself, so it takes the model from main memory.
        as_it_is: it is the one in the directory `arguments.model`, which vLLM then reads itself.
    """
    if options.engine != "vllm":
        return Engine(load(device), options.rows, arguments.threads)
    from knowshift.generation.vllm_engine import VllmEngine

    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # A process of its own, not a fork of this one: where llvmlite is loaded, as by restoring, vLLM for CPUs fails.
    os.environ.setdefault("VLLM_WORKER_MULTIPROCESSING_METHOD", "spawn")
    if arguments.gpus <= 1 and device.index is not None:  # the leased one, and no other
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # the index counts among these
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[device.index] if visible else str(device.index)
    model = arguments.model if as_it_is else (load(torch.device("cpu")), arguments.model)
    return VllmEngine(model, options.dtype, options.rows, max(1, arguments.gpus))
