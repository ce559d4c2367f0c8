"""Sizes jobs from the number of parameters of their model: GPUs, nodes and bytes of memory.

GPUs = parameters x bytes per parameter x MARGIN / memory of one GPU, rounded up. Rules request these numbers and plans
count them. This module imports nothing slow, because every job of the workflow reads the Snakefile.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARGIN = 1.2  # factor for activations, buffers and fragmentation on top of the parameters
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes of one value
ASSUMED_PARAMETERS = 1_000_000_000  # of a model whose size is not known yet


@dataclass(frozen=True)
class Machine:
    """The GPUs that jobs can get.

    Attributes:
        gpu_gb: memory of one GPU in 10^9 bytes; 0 means that there is no GPU.
        gpus_per_node: GPUs of one node.
    """

    gpu_gb: float = 0
    gpus_per_node: int = 1


def training_bytes(parameters: float, method: str, training: Mapping[str, Any]) -> float:
    """Estimate the bytes per model parameter that fine-tuning keeps in memory.

    AdamW keeps weights, gradients and two moments of everything it trains (adamw_8bit: both moments in 2 bytes), and a
    pull towards the base keeps the weights a second time. LoRA adapters of rank r at an n x m matrix have r (n + m)
    parameters, at most 2 r / h of the matrix's n m, where h is the smaller of n and m: the hidden size. It is estimated
    from the parameter count for a transformer with h / 128 layers, as the LLaMA family has.

    Args:
        parameters: number of parameters of the model.
        method: full or lora.
        training: the settings dtype, compute (autocast keeps a second copy of the weights), optimizer, lora
            and l2_sp.
    """
    weight = DTYPE_BYTES[training["dtype"]]
    autocast = DTYPE_BYTES.get(training["compute"], 0)
    moments = 2 if training["optimizer"] == "adamw_8bit" else 2 * weight
    gradient_and_moments = weight + moments
    if method == "full":
        return weight + autocast + gradient_and_moments + (weight if training.get("l2_sp") else 0)
    hidden = (parameters * 128 / 12) ** (1 / 3)
    return weight + autocast + (weight + gradient_and_moments) * min(1, 2 * training["lora"]["rank"] / hidden)


def gpus_for(parameters: float, bytes_per_parameter: float, machine: Machine) -> int:
    """Count the GPUs whose memory holds a job; 0 if the machine has none."""
    if not machine.gpu_gb:
        return 0
    return math.ceil(parameters * bytes_per_parameter * MARGIN / (machine.gpu_gb * 1e9))


def training_gpus(needed: int, machine: Machine, gpus: int | None = None, nodes: int | None = None) -> tuple[int, int]:
    """Choose GPUs and nodes for a fine-tuning job; a job on several nodes takes whole nodes.

    Args:
        needed: GPUs whose memory holds the job.
        machine: the GPUs there are.
        gpus, nodes: numbers set by hand, which take precedence.

    Returns:
        Total GPUs, and nodes.
    """
    nodes = nodes or max(1, math.ceil((needed if gpus is None else gpus) / machine.gpus_per_node))
    if gpus is None:
        gpus = nodes * machine.gpus_per_node if needed and nodes > 1 else needed
    return gpus, nodes


def inference_gpus(parameters: float, dtype: str, engine: str, machine: Machine) -> int:
    """Count the GPUs that hold a model for generation.

    vLLM gets a power of two, which divides attention heads evenly.
    """
    needed = gpus_for(parameters, DTYPE_BYTES[dtype], machine)
    return 1 << (needed - 1).bit_length() if needed and engine == "vllm" else needed


def megabytes(parameters: float, bytes_per_parameter: float, nodes: int = 1) -> int:
    """Estimate the main memory in MB (10^6 bytes) that a job needs on each node, its Python process included."""
    return round(1500 + parameters * bytes_per_parameter / nodes / 1e6)
