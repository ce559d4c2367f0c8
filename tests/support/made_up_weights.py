"""Made-up weights before and after training, and what the authors' procedure selects of them."""

import math
from fractions import Fraction

import numpy as np
import torch

from knowshift.weights.torch_bits import bits_of, name_of
from knowshift.weights.versions import Versions

LAYER = "model.layers.0.mlp.up_proj.weight"
NAMES = [
    LAYER,
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.1.mlp.up_proj.weight",
    "model.norm.weight",
    "model.layers.1.input_layernorm.weight",
    "model.embed_tokens.weight",
]

Triple = tuple[str, torch.Tensor, torch.Tensor]  # name, tensor before training, tensor after training


def triples(seed: int = 0, dtype: torch.dtype = torch.float32, ties: bool = False) -> list[Triple]:
    """Make tensors of shape (17, 23) with some zeros, in the order of names; about a fifth of the values do not change.

    Args:
        seed: the seed of the values.
        dtype: the type of the tensors.
        ties: make many relative changes equal.
    """
    draw = torch.Generator().manual_seed(seed)
    made = []
    for name in sorted(NAMES):
        base = torch.randn(17, 23, generator=draw)
        base[0, :3] = 0
        change = torch.randn(17, 23, generator=draw) * (torch.rand(17, 23, generator=draw) < 0.8)
        tuned = base * (1 + (change * 10).round() / 8) if ties else base + 0.01 * change
        made.append((name, base.to(dtype), tuned.to(dtype)))
    return made


def held(members: list[Triple]) -> Versions:
    """Hold tensors in memory as two versions of a model."""
    bits = {name: (bits_of(base.reshape(-1)), bits_of(tuned.reshape(-1))) for name, base, tuned in members}
    shapes = {name: tuple(tuned.shape) for name, _, tuned in members}
    dtypes = {name: name_of(tuned.dtype) for name, _, tuned in members}

    def read(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        base, tuned = bits[name]
        return base[start:stop], tuned[start:stop]

    return Versions(shapes, dtypes, read)


def plain_changes(members: list[Triple], strategy: str = "top") -> torch.Tensor:
    """Compute all changes of a region with torch, in one float32 vector: relative, or absolute for two strategies."""
    before = torch.cat([base.reshape(-1).float() for _, base, _ in members])
    after = torch.cat([tuned.reshape(-1).float() for _, _, tuned in members])
    change = (after - before).abs()
    return change if strategy in ("absolute", "smallest") else change / (before.abs() + 1e-8)


def plain_masks(members: list[Triple], strategy: str, percent: float) -> list[torch.Tensor]:
    """Select as the authors do, by sorting one vector of all changes in memory.

    Returns:
        A Boolean mask per tensor, in its shape: what is restored.
    """
    change = plain_changes(members, strategy)
    # A stable sort takes the earlier of equals first, which is the order of (tensor name, flat index).
    order = torch.sort(change, descending=strategy not in ("bottom", "smallest"), stable=True).indices
    mask = torch.zeros(len(change), dtype=torch.bool)
    mask[order[: math.floor(Fraction(str(percent)) * len(change) / 100)]] = True
    parts = mask.split([base.numel() for _, base, _ in members])
    return [part.reshape(base.shape) for (_, base, _), part in zip(members, parts, strict=True)]
