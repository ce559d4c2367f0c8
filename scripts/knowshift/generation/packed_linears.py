"""Linear layers whose weights are laid out once for the CPU's matrix units.

`nn.Linear` rearranges its weight at every call. What is faster depends on the type and the size: for float32 weights
that a core's cache holds, MKL with the transposed weight; for other types and for larger weights, oneDNN with the
weight in its blocked layout (docs/benchmarks.md has figures). MKL adds up some rows of a product in another order than
others, for some numbers of rows and instruction sets (AVX2 with 8 or 32 rows, not with 64). A result would then depend
on where in a pass a token stands, so that is tried out, and oneDNN is taken where it happens.
"""

import torch
from torch import nn
from torch.nn.functional import linear

TYPICAL_ROWS = 64  # rows of a typical input; oneDNN's layout is chosen for it and works for any number
LARGE = 4_000_000  # float32 weights with more numbers than this are multiplied by oneDNN


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


class TransposedLinear(nn.Module):
    """`nn.Linear` for inference, with its weight stored as (in_features, out_features)."""

    def __init__(self, source: nn.Linear) -> None:
        """Transpose a copy of the weight of `source`; the bias is shared with it."""
        super().__init__()
        self.in_features, self.out_features = source.in_features, source.out_features
        self.bias = source.bias
        self.transposed = source.weight.detach().t().contiguous()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features)."""
        rows = x.reshape(-1, self.in_features)
        product = rows @ self.transposed if self.bias is None else torch.addmm(self.bias, rows, self.transposed)
        return product.view(*x.shape[:-1], self.out_features)


def replace_weight(layer: PackedLinear | TransposedLinear, weight: torch.Tensor) -> None:
    """Give a layer another weight, in the layout that it has already.

    Args:
        layer: the layer.
        weight: the plain weight (out_features, in_features), in the type that the layer computes in.
    """
    with torch.no_grad():
        if isinstance(layer, TransposedLinear):
            layer.transposed.copy_(weight.t())
        else:
            layer.packed = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)


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
        if x.shape[-2] == self.rows_per_block:
            return self.layer(x)
        return torch.cat([self.layer(block) for block in x.split(self.rows_per_block, -2)], -2)


def pack_linears(model: nn.Module, rows: int, head: nn.Module | None = None) -> bool:
    """Replace the linear layers of a model on the CPU by ones with a faster layout, in place.

    The plain weights are freed, except where something else holds them too, as a tied embedding does.

    Args:
        model: the model.
        rows: how many rows the layers are given.
        head: the model's output layer, which is given another number of rows.

    Returns:
        Whether any was replaced. On a GPU, or where this build of torch or this processor has no layout of its own,
        none is.
    """
    if next(model.parameters()).device.type != "cpu":
        return False
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    alike: dict[torch.Size, bool] = {}
    transposed = [child is not head and _suits_mkl(child) and _rows_alike(child, rows, alike) for *_, child in found]
    others = [child for (*_, child), suits in zip(found, transposed, strict=True) if not suits]
    packing = bool(others) and torch.backends.mkldnn.is_available() and _works(others[0])
    for (parent, name, child), suits in zip(found, transposed, strict=True):
        if suits or packing:
            setattr(parent, name, TransposedLinear(child) if suits else PackedLinear(child))
    return packing or any(transposed)


def _suits_mkl(layer: nn.Linear) -> bool:
    """Tell whether MKL multiplies by the transposed weight faster than oneDNN by the packed one."""
    weight = layer.weight
    return torch.backends.mkl.is_available() and weight.dtype == torch.float32 and weight.numel() <= LARGE


def _rows_alike(layer: nn.Linear, rows: int, known: dict[torch.Size, bool]) -> bool:
    """Tell whether MKL computes each row of a product in the same way, wherever it stands.

    Args:
        layer: a layer in float32.
        rows: rows of the product.
        known: what has been found of other layers, by the shape of their weight; the layer's is added.
    """
    shape = layer.weight.shape
    if shape not in known:
        x = torch.randn(rows, layer.in_features, generator=torch.Generator().manual_seed(0))
        transposed = TransposedLinear(layer)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the engine computes
        with torch.inference_mode():
            product = transposed(x)
            known[shape] = all(
                torch.equal(transposed(x.roll(shift, 0)), product.roll(shift, 0)) for shift in (1, rows // 3, rows // 2)
            )
        torch.set_num_threads(threads)
    return known[shape]


def _works(sample: nn.Linear) -> bool:
    """Tell whether packing works here: its operators are internal to torch, so a result is checked against `linear`."""
    x = torch.linspace(-1, 1, TYPICAL_ROWS * sample.in_features).view(TYPICAL_ROWS, -1).to(sample.weight.dtype)
    expected = linear(x, sample.weight, sample.bias)
    try:
        got = PackedLinear(sample)(x)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(got.float(), expected.float(), rtol=2e-2, atol=2e-2)
