"""How long a GPU takes for known work, by the roofline model: arithmetic or memory, whichever is slower.

A forward pass takes 2 operations per parameter and token, training 6 (Kaplan et al. 2020, arXiv:2001.08361, section 2.1);
adapters spare the third of them that would be the gradient of the weights. Attention over so few tokens is left out. A pass
that writes one token for each row reads every weight once (Williams et al. 2009, doi:10.1145/1498765.1498785). What of the
peak is reached is assumed, and so is what a job takes before its first token: the estimate is of an order of magnitude.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from knowshift.planning.sizing import WIDTH

COMPUTE_SHARE = (
    0.4  # of the peak, where arithmetic bounds: as reported for large trainings (PaLM: 0.46, arXiv:2204.02311)
)
BANDWIDTH_SHARE = 0.6  # of the peak, where memory bounds
START = 60.0  # seconds: imports, tokenizer, engine
READ_RATE = 2e9  # bytes a second that a job reads weights with, on all its GPUs together

# Bytes per parameter that an optimizer step moves. Weights are read and cast for the forward and the backward pass
# (2 x (4 + 2 + 2)); gradients are written, read for their norm, scaled and used (4 + 4 + 8 + 4); AdamW reads and writes weights
# (8) and both moments. Adapters have next to no gradients and moments.
STEP_BYTES = {"full": 44, "lora": 16}
MOMENTS = {"adamw": 8, "adamw_8bit": 2}  # bytes of both, of what is trained
STEP_FLOPS = {"full": 6, "lora": 4}  # per parameter and token

# Bytes per parameter that each GPU of a sharded training receives in a step: float32 weights for the forward and for the
# backward pass, and its part of the gradients' sum.
GATHERED_BYTES = {"full": 12, "lora": 8}
NODE = 8  # GPUs of a node
NETWORK = (
    NODE * 50e9
)  # bytes a second that a node receives from others: 400 Gbit/s for each GPU; the node passes them on


@dataclass(frozen=True)
class Accelerator:
    """A GPU, by its vendor's data sheet.

    Attributes:
        name: as the vendor calls it.
        memory: bytes.
        bandwidth: bytes a second.
        link: bytes a second that it receives from others of its node.
        flops: operations a second per type, dense, without tensor cores for float32.
    """

    name: str
    memory: float
    bandwidth: float
    link: float
    flops: Mapping[str, float]


def _accelerator(
    name: str, gigabytes: float, terabytes_per_second: float, link: float, half: float, single: float
) -> Accelerator:
    flops = {"bfloat16": half * 1e12, "float16": half * 1e12, "float32": single * 1e12}
    return Accelerator(name, gigabytes * 1e9, terabytes_per_second * 1e12, link * 1e9, flops)


ACCELERATORS = {
    "a100": _accelerator("NVIDIA A100 SXM 80 GB", 80, 2.039, 300, 312, 19.5),
    "h100": _accelerator("NVIDIA H100 SXM 80 GB", 80, 3.35, 450, 989, 67),
    "h200": _accelerator("NVIDIA H200 SXM 141 GB", 141, 4.8, 450, 989, 67),
    "l40s": _accelerator("NVIDIA L40S 48 GB", 48, 0.864, 32, 362, 91.6),
}


def generating_seconds(
    parameters: float, read: float, written: float, rows: int, dtype: str, accelerator: Accelerator
) -> float:
    """GPU-seconds to read and write tokens.

    Args:
        parameters: N.
        read: tokens of prompts, many in one pass.
        written: tokens that are generated, one after another.
        rows: sequences that are generated at once.
        dtype: type of weights and arithmetic.
    """
    compute = COMPUTE_SHARE * accelerator.flops[dtype]
    bandwidth = BANDWIDTH_SHARE * accelerator.bandwidth
    one_pass = max(2 * parameters * rows / compute, parameters * WIDTH[dtype] / bandwidth)
    return 2 * parameters * read / compute + written / rows * one_pass


def training_seconds(
    parameters: float,
    tokens: float,
    steps: float,
    method: str,
    optimizer: str,
    dtype: str,
    devices: int,
    accelerator: Accelerator,
) -> float:
    """GPU-seconds of a training: the arithmetic of its tokens, what every step moves in memory, and between GPUs.

    Args:
        parameters: N.
        tokens: of all examples.
        steps: optimizer steps.
        method: full or lora.
        optimizer: adamw or adamw_8bit.
        dtype: type of the arithmetic.
        devices: GPUs that the model is sharded over.
    """
    compute = STEP_FLOPS[method] * parameters * tokens / (COMPUTE_SHARE * accelerator.flops[dtype])
    moved = STEP_BYTES[method] + (2 * MOMENTS[optimizer] if method == "full" else 0)
    step = moved * parameters / (BANDWIDTH_SHARE * accelerator.bandwidth)
    if devices > 1:  # all of them wait
        link = accelerator.link if devices <= NODE else min(accelerator.link, NETWORK)
        step += devices * GATHERED_BYTES[method] * parameters / (BANDWIDTH_SHARE * link)
    return compute + steps * step


def starting_seconds(jobs: int, devices: int, bytes_read: float) -> float:
    """GPU-seconds that jobs hold their GPUs before they compute."""
    return jobs * devices * (START + bytes_read / READ_RATE)
