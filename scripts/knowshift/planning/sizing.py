"""How much a job of a model needs, from the number of its parameters: GPUs, nodes, bytes.

GPUs = parameters x bytes per parameter x MARGIN / memory of one GPU, rounded up. Rules ask for these, and plans count them; it
imports nothing slow, because every job reads the Snakefile.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARGIN = 1.2  # what activations, buffers and gaps take on top of the parameters
WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes
ASSUMED = 1_000_000_000  # parameters of a model of which nothing is known yet


@dataclass(frozen=True)
class Machine:
    """The GPUs that jobs can get; without any, `gpu_gb` is 0."""

    gpu_gb: float = 0  # memory of one, in 10^9 bytes
    gpus_per_node: int = 1


def training_bytes(parameters: float, method: str, training: Mapping[str, Any]) -> float:
    """Bytes per parameter that a fine-tuning holds.

    AdamW keeps weights, gradients and two moments (or both moments in 2 bytes) of everything it trains. Adapters of rank r
    at a matrix of n x m have r (n + m) parameters, at most 2 r / width of the matrix's; the width is that of a transformer of
    this size whose depth is width / 128, as those of the LLaMA family have.

    Args:
        parameters: of the model.
        method: full or lora.
        training: its `dtype`, `compute` (autocast keeps a second copy of the weights), `optimizer` and `lora`.
    """
    width = WIDTH[training["dtype"]]
    autocast = WIDTH.get(training["compute"], 0)
    more = width + (2 if training["optimizer"] == "adamw_8bit" else 2 * width)  # of what is trained
    if method == "full":
        return width + autocast + more
    hidden = (parameters * 128 / 12) ** (1 / 3)
    return width + autocast + (width + more) * min(1, 2 * training["lora"]["rank"] / hidden)


def gpus_for(parameters: float, bytes_per_parameter: float, machine: Machine) -> int:
    """GPUs that hold a job; 0 where the machine has none."""
    if not machine.gpu_gb:
        return 0
    return math.ceil(parameters * bytes_per_parameter * MARGIN / (machine.gpu_gb * 1e9))


def training_gpus(needed: int, machine: Machine, gpus: int | None = None, nodes: int | None = None) -> tuple[int, int]:
    """GPUs and nodes of a fine-tuning; of several nodes it takes whole nodes.

    Args:
        needed: GPUs that hold it.
        gpus, nodes: numbers that are set by hand.
    """
    nodes = nodes or max(1, math.ceil((needed if gpus is None else gpus) / machine.gpus_per_node))
    if gpus is None:
        gpus = nodes * machine.gpus_per_node if needed and nodes > 1 else needed
    return gpus, nodes


def asking_gpus(parameters: float, dtype: str, engine: str, machine: Machine) -> int:
    """GPUs that hold a model that is asked questions; of vLLM a power of two, which shares attention heads out evenly."""
    needed = gpus_for(parameters, WIDTH[dtype], machine)
    return 1 << (needed - 1).bit_length() if needed and engine == "vllm" else needed


def megabytes(parameters: float, bytes_per_parameter: float, nodes: int = 1) -> int:
    """Memory of a node, of a job that holds so much on the CPU."""
    return round(1500 + parameters * bytes_per_parameter / nodes / 1e6)
