"""Estimates how long a GPU takes for known work, by the roofline model: arithmetic or memory, whichever is slower.

A forward pass takes 2 operations per parameter and token, training takes 6 (Kaplan et al. 2020, arXiv:2001.08361,
section 2.1). LoRA saves 2 of the 6: the gradient of the frozen weights. Attention over such short sequences is left
out. A forward pass that generates one token per sequence reads every weight once (Williams et al. 2009,
doi:10.1145/1498765.1498785). The share of the peak that is reached, and the time before a job's first token, are
assumptions, so an estimate is right in its order of magnitude only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from knowshift.planning.sizing import DTYPE_BYTES

COMPUTE_SHARE = 0.4  # of peak arithmetic where it is the bound; PaLM reports 0.46 (arXiv:2204.02311)
BANDWIDTH_SHARE = 0.6  # of peak memory bandwidth where it is the bound
START_SECONDS = 60.0  # imports, tokenizer, engine
READ_RATE = 2e9  # bytes per second at which a job reads weights, over all its GPUs together

# Bytes per parameter that an optimizer step moves through memory. Weights are read and cast for the forward and the
# backward pass (2 x (4 + 2 + 2)); gradients are written, read for their norm, scaled and used (4 + 4 + 8 + 4); AdamW
# reads and writes the weights (8) and both moments. LoRA has next to no gradients and moments.
STEP_BYTES = {"full": 44, "lora": 16}
MOMENT_BYTES = {"adamw": 8, "adamw_8bit": 2}  # of both moments, per trained parameter
PULL_BYTES = 24  # of a pull: weights and base are read for their difference, which is added to the gradients
STEP_FLOPS = {"full": 6, "lora": 4}  # operations per parameter and token

# Bytes per parameter that each GPU of a sharded training receives in a step: float32 weights for the forward and for
# the backward pass, and its shard of the summed gradients.
GATHERED_BYTES = {"full": 12, "lora": 8}
GPUS_PER_NODE = 8
NODE_NETWORK = GPUS_PER_NODE * 50e9  # bytes per second into one node from others: 400 Gbit/s per GPU


@dataclass(frozen=True)
class Accelerator:
    """A GPU as its vendor's data sheet describes it.

    Attributes:
        name: the vendor's name.
        memory: bytes.
        bandwidth: of its memory, in bytes per second.
        link: bytes per second that it receives from other GPUs of its node.
        flops: peak operations per second by type, dense; float32 without tensor cores.
    """

    name: str
    memory: float
    bandwidth: float
    link: float
    flops: Mapping[str, float]


def _accelerator(
    name: str, gigabytes: float, terabytes_per_second: float, link: float, half: float, single: float
) -> Accelerator:
    """An accelerator in a data sheet's units: GB, TB/s, GB/s of the link, TFLOP/s in 16 bits, TFLOP/s in float32."""
    flops = {"bfloat16": half * 1e12, "float16": half * 1e12, "float32": single * 1e12}
    return Accelerator(name, gigabytes * 1e9, terabytes_per_second * 1e12, link * 1e9, flops)


ACCELERATORS = {
    "a100": _accelerator("NVIDIA A100 SXM 80 GB", 80, 2.039, 300, 312, 19.5),
    "h100": _accelerator("NVIDIA H100 SXM 80 GB", 80, 3.35, 450, 989, 67),
    "h200": _accelerator("NVIDIA H200 SXM 141 GB", 141, 4.8, 450, 989, 67),
    "l40s": _accelerator("NVIDIA L40S 48 GB", 48, 0.864, 32, 362, 91.6),
}


def generating_seconds(
    parameters: float, read: float, written: float, batch: float, dtype: str, accelerator: Accelerator
) -> float:
    """Estimate the GPU-seconds for reading prompts and generating tokens.

    Args:
        parameters: number of parameters of the model.
        read: tokens of all prompts; a pass reads many at once.
        written: tokens that are generated, one per sequence and pass.
        batch: sequences that are generated at once.
        dtype: type of the weights and the arithmetic.
        accelerator: the GPU.
    """
    compute = COMPUTE_SHARE * accelerator.flops[dtype]
    bandwidth = BANDWIDTH_SHARE * accelerator.bandwidth
    one_pass = max(2 * parameters * batch / compute, parameters * DTYPE_BYTES[dtype] / bandwidth)
    return 2 * parameters * read / compute + written / batch * one_pass


def step_bytes(method: str, optimizer: str, pulled: bool) -> float:
    """Return the bytes per parameter that an optimizer step moves through memory, with float32 weights.

    Args:
        method: full or lora.
        optimizer: adamw or adamw_8bit.
        pulled: whether the weights are pulled towards the base (`l2_sp`).
    """
    if method != "full":
        return STEP_BYTES[method]
    return STEP_BYTES[method] + 2 * MOMENT_BYTES[optimizer] + (PULL_BYTES if pulled else 0)


def training_seconds(
    parameters: float,
    tokens: float,
    steps: float,
    method: str,
    optimizer: str,
    dtype: str,
    gpus: int,
    accelerator: Accelerator,
    pulled: bool = False,
) -> float:
    """Estimate the GPU-seconds of a training: arithmetic, plus what every step moves through memory and between GPUs.

    Args:
        parameters: number of parameters of the model.
        tokens: tokens of all examples.
        steps: optimizer steps.
        method: full or lora.
        optimizer: adamw or adamw_8bit.
        dtype: type of the arithmetic.
        gpus: GPUs that the model is sharded over.
        accelerator: the GPU.
        pulled: whether the weights are pulled towards the base (`l2_sp`).
    """
    compute = STEP_FLOPS[method] * parameters * tokens / (COMPUTE_SHARE * accelerator.flops[dtype])
    step = step_bytes(method, optimizer, pulled) * parameters / (BANDWIDTH_SHARE * accelerator.bandwidth)
    if gpus > 1:  # all of them wait for the transfer
        link = accelerator.link if gpus <= GPUS_PER_NODE else min(accelerator.link, NODE_NETWORK)
        step += gpus * GATHERED_BYTES[method] * parameters / (BANDWIDTH_SHARE * link)
    return compute + steps * step


def starting_seconds(jobs: int, gpus: int, bytes_read: float) -> float:
    """Estimate the GPU-seconds that jobs hold their GPUs before they compute.

    Args:
        jobs: number of jobs.
        gpus: GPUs of each job.
        bytes_read: bytes of weights that each job reads.
    """
    return jobs * gpus * (START_SECONDS + bytes_read / READ_RATE)
