"""Linear layers in other layouts: the same products, each row for itself."""

import pytest
import torch
from torch import nn

from knowshift.generation import packed_linears
from knowshift.generation.packed_linears import LARGE, PackedLinear, TransposedLinear, pack_linears

SHAPES = [(5, 3), (48, 40), (192, 576), (1536, 64)]  # (in_features, out_features)


def packed(layer: nn.Linear, rows: int = 64) -> nn.Module:
    """The layer as `pack_linears` leaves it."""
    model = nn.Sequential(layer)
    pack_linears(model, rows)
    return model[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_products_are_those_of_a_plain_layer(dtype: torch.dtype, shape: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(*shape, bias=bias).to(dtype)
    x = torch.randn(2, 7, shape[0]).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    with torch.inference_mode():
        expected = layer(x)
        torch.testing.assert_close(packed(layer)(x), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rows", [4, 8, 20, 32, 40, 64, 80, 100, 128, 160, 320])
def test_a_row_has_the_same_bits_wherever_it_stands_and_whatever_its_neighbours_are(rows: int) -> None:
    """What makes results exact: the engine reads a token at any row of a pass."""
    torch.manual_seed(1)
    x, order = torch.randn(rows, 576), torch.randperm(rows)
    with torch.inference_mode():
        for width in (192, 576, 1536):
            layer = packed(nn.Linear(576, width, bias=False), rows)
            product = layer(x)
            assert torch.equal(layer(x[order]), product[order])
            others = torch.randn(rows, 576)
            others[rows // 3] = x[rows - 1]
            assert torch.equal(layer(others)[rows // 3], product[rows - 1])


def test_the_layout_follows_type_size_and_place() -> None:
    assert isinstance(packed(nn.Linear(8, 8).bfloat16()), PackedLinear | nn.Linear)
    assert isinstance(packed(nn.Linear(16, LARGE // 16 + 1, bias=False)), PackedLinear | nn.Linear)
    model = nn.Sequential(nn.Linear(8, 8))
    pack_linears(model, 64, head=model[0])
    assert isinstance(model[0], PackedLinear | nn.Linear)


def test_mkl_is_left_where_its_rows_are_not_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on AVX2 with 8 or 32 rows: here a product whose last row is computed in another way."""

    def uneven(self: TransposedLinear, x: torch.Tensor) -> torch.Tensor:
        product = x @ self.transposed
        return torch.cat([product[:-1], product[-1:] * (1 + 1e-6)])

    monkeypatch.setattr(TransposedLinear, "forward", uneven)
    assert not isinstance(packed(nn.Linear(64, 8, bias=False)), TransposedLinear)


def test_small_float32_layers_are_transposed_where_rows_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(packed_linears, "_rows_alike", lambda *_: True)
    layer = nn.Linear(64, 96, bias=False)
    found = packed(layer)
    assert isinstance(found, TransposedLinear)
    assert torch.equal(found.transposed, layer.weight.detach().t())


def test_plain_weights_are_freed_but_where_they_are_tied() -> None:
    layer, embedding = nn.Linear(8, 8), nn.Embedding(8, 8)
    embedding.weight = layer.weight
    model = nn.ModuleList([embedding, layer])
    assert pack_linears(model, 64)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "1.bias"]
