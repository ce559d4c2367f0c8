"""Linear layers whose weights are packed once for the CPU's matrix units.

That is up to twice as fast as `nn.Linear`, which packs them at every call.
"""

import torch
from torch import nn
from torch.nn.functional import linear

TYPICAL_ROWS = 64  # rows of a typical input; the packed layout is chosen for it and works for any number


class PackedLinear(nn.Module):
    """`nn.Linear` for inference, with its weight in oneDNN's blocked layout."""

    def __init__(self, source: nn.Linear) -> None:
        """Pack a copy of the weight of `source`; the bias is shared with it."""
        super().__init__()
        self.in_features, self.out_features = source.in_features, source.out_features
        self.bias = source.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(source.weight.detach(), TYPICAL_ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class InBlocks(nn.Module):
    """A layer that is applied to a fixed number of rows at a time.

    All products then have one shape, so how many rows there are changes no bit of a result.
    """

    def __init__(self, layer: nn.Module, rows_per_block: int) -> None:
        """Wrap a layer; the number of rows given to `forward` must be a multiple of `rows_per_block`."""
        super().__init__()
        self.layer, self.rows_per_block = layer, rows_per_block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., rows, in_features) to (..., rows, out_features)."""
        return torch.cat([self.layer(block) for block in x.split(self.rows_per_block, -2)], -2)


def pack_linears(model: nn.Module) -> bool:
    """Replace the linear layers of a model on the CPU by packed ones, in place.

    The plain weights are freed, except where something else holds them too, as a tied embedding does.

    Returns:
        Whether they were replaced. On a GPU, or where this build of torch or this processor cannot pack, they are not.
    """
    if not torch.backends.mkldnn.is_available() or next(model.parameters()).device.type != "cpu":
        return False
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    if not found or not _works(found[0][2]):
        return False
    for parent, name, child in found:
        setattr(parent, name, PackedLinear(child))
    return True


def _works(sample: nn.Linear) -> bool:
    """Tell whether packing works here: its operators are internal to torch, so a result is checked against `linear`."""
    x = torch.linspace(-1, 1, TYPICAL_ROWS * sample.in_features).view(TYPICAL_ROWS, -1).to(sample.weight.dtype)
    expected = linear(x, sample.weight, sample.bias)
    try:
        got = PackedLinear(sample)(x)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(got.float(), expected.float(), rtol=2e-2, atol=2e-2)
