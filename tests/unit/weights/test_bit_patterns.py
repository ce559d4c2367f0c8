"""Bit patterns stand for the values that torch gives them, for every pattern of the narrow types."""

import numpy as np
import pytest
import torch

from knowshift.weights.bit_patterns import WIDTHS, all_finite, as_float32, cast, integer_type

FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
LARGEST = {"float64": 1.7e308, "float32": 3e38, "float16": 65504.0, "bfloat16": 3e38}


def patterns(dtype: str) -> np.ndarray:
    """All bit patterns of a type of at most two bytes, or many of a wider one, with infinities, NaN and zeros."""
    width = WIDTHS[dtype]
    if width <= 2:
        return np.arange(256**width, dtype=f"u{width}").view(integer_type(dtype)).copy()
    drawn = np.random.default_rng(1).integers(0, 256, (20_000, width), dtype=np.uint8)
    bits = drawn.view(integer_type(dtype)).ravel()
    if dtype not in FLOATS:
        return bits
    odd = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-310, 1e-40], dtype=getattr(torch, dtype))
    return np.concatenate([bits, odd.view(getattr(torch, f"int{8 * width}")).numpy()])


def values(bits: np.ndarray, dtype: str) -> torch.Tensor:
    """What torch reads in bit patterns."""
    if dtype == "bool":
        bits = bits & 1
    return torch.from_numpy(bits).view(getattr(torch, dtype))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in cast")
@pytest.mark.parametrize("dtype", WIDTHS)
def test_patterns_stand_for_the_values_of_torch(dtype: str) -> None:
    bits = patterns(dtype)
    if dtype == "bool":
        bits = bits[bits & 1 == bits]
    assert integer_type(dtype) == bits.dtype and bits.dtype.kind == "i"
    got = as_float32(bits.reshape(-1, 1), dtype)
    wanted = values(bits, dtype).to(torch.float32).numpy().reshape(-1, 1)
    assert got.dtype == np.float32 and got.shape == (len(bits), 1)
    assert np.array_equal(got, wanted, equal_nan=True) and np.array_equal(np.signbit(got), np.signbit(wanted))
    assert np.shares_memory(got, bits) is (dtype == "float32")


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_value_that_is_not_finite_is_found(dtype: str) -> None:
    bits = patterns(dtype)
    known = torch.isfinite(values(bits, dtype).to(torch.float64)).numpy()
    assert 0 < known.sum() < len(known) and all_finite(bits[known], dtype) and all_finite(bits[:0], dtype)
    assert not all_finite(bits, dtype)
    for place in np.random.default_rng(2).choice(np.flatnonzero(~known), 50):
        assert not all_finite(np.append(bits[known][:9], bits[place]), dtype)
    if dtype in LARGEST:
        for sign in (1, -1):
            number = torch.tensor([sign * LARGEST[dtype]], dtype=getattr(torch, dtype))
            assert all_finite(number.view(getattr(torch, f"int{8 * WIDTHS[dtype]}")).numpy(), dtype)


@pytest.mark.parametrize("stored", FLOATS)
def test_a_cast_rounds_as_torch_does(stored: str) -> None:
    bits = patterns(stored)
    for wanted in FLOATS:
        got = cast(bits, stored, wanted)
        assert got.dtype == integer_type(wanted) and got.shape == bits.shape
        expected = values(bits, stored).to(getattr(torch, wanted)).to(torch.float64)
        assert torch.equal(values(got, wanted).to(torch.float64).nan_to_num(), expected.nan_to_num())
        assert (got is bits) is (stored == wanted)
