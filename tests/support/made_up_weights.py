"""Weights before and after a training, made up, and what the authors' procedure selects of them."""

import math
from fractions import Fraction

import torch

from knowshift.weights.torch_bits import bits_of, name_of
from knowshift.weights.versions import Pairs

LAYER = "model.layers.0.mlp.up_proj.weight"
NAMES = [LAYER, "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight",
         "model.layers.1.input_layernorm.weight", "model.embed_tokens.weight"]  # fmt: skip


Triple = tuple[str, torch.Tensor, torch.Tensor]


def triples(seed: int = 0, dtype: torch.dtype = torch.float32, ties: bool = False) -> list[Triple]:
    """(name, base, tuned) in the order of names."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for name in sorted(NAMES):
        base = torch.randn(17, 23, generator=draw)
        base[0, :3] = 0
        change = torch.randn(17, 23, generator=draw) * (torch.rand(17, 23, generator=draw) < 0.8)
        tuned = base * (1 + (change * 10).round() / 8) if ties else base + 0.01 * change
        made.append((name, base.to(dtype), tuned.to(dtype)))
    return made


def held(members: list[Triple]) -> Pairs:
    """Pairs in memory."""
    bits = {name: (bits_of(base.reshape(-1)), bits_of(tuned.reshape(-1))) for name, base, tuned in members}
    shapes = {name: tuple(tuned.shape) for name, _, tuned in members}
    dtypes = {name: name_of(tuned.dtype) for name, _, tuned in members}
    return Pairs(shapes, dtypes, lambda name, start, stop: tuple(side[start:stop] for side in bits[name]))


def plain_changes(members: list[Triple], strategy: str = "top") -> torch.Tensor:
    """One vector of the changes of a whole region, relative or absolute, by torch in float32."""
    before, after = (torch.cat([pair[side].reshape(-1).float() for pair in members]) for side in (1, 2))
    change = (after - before).abs()
    return change if strategy == "absolute" else change / (before.abs() + 1e-8)


def plain_masks(members: list[Triple], strategy: str, percent: float) -> list[torch.Tensor]:
    """The authors' procedure, kept whole in memory: one vector of all changes, sorted."""
    change = plain_changes(members, strategy)
    # A stable sort takes the earlier of equals first, which is the order of (tensor name, flat index).
    order = torch.sort(change, descending=strategy != "bottom", stable=True).indices
    mask = torch.zeros(len(change), dtype=torch.bool)
    mask[order[: math.floor(Fraction(str(percent)) * len(change) / 100)]] = True
    parts = mask.split([base.numel() for _, base, _ in members])
    return [part.reshape(base.shape) for (_, base, _), part in zip(members, parts, strict=True)]
