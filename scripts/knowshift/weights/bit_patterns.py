"""Weights as bit patterns: numpy arrays of signed integers as wide as the stored type, whatever that type is.

numpy has no bfloat16, and comparing or restoring weights on disk needs no arithmetic in it. Types go by the names that
torch gives them ("float32", "bfloat16"). torch itself is imported only for a rare cast: loading it takes longer than
comparing two small models.
"""

import numpy as np

WIDTHS = {  # bytes of a value of each type
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
}

# Bits of positive infinity: without the sign, every larger pattern is a NaN and every smaller one is finite.
_INFINITY = {"float64": 0x7FF << 52, "float32": 0xFF << 23, "float16": 0x1F << 10, "bfloat16": 0xFF << 7}


def integer_type(dtype: str) -> np.dtype:
    """Return the signed numpy type that holds bit patterns of `dtype`, such as int16 for "bfloat16"."""
    return np.dtype(f"i{WIDTHS[dtype]}")


def as_float32(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Convert bit patterns to the values that they stand for.

    Args:
        bits: integers of `integer_type(dtype)`, any shape.
        dtype: the stored type.

    Returns:
        float32 values of the same shape; a view of `bits` if `dtype` is "float32".
    """
    if dtype == "bfloat16":
        wide = bits.view(np.uint16).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    if dtype not in _INFINITY:
        bits, dtype = cast(bits, dtype, "float32"), "float32"
    return bits.view(dtype).astype(np.float32, copy=False)


def from_float32(values: np.ndarray, dtype: str) -> np.ndarray:
    """Convert float32 values, of any shape, to bit patterns of a type, rounding to the nearest as torch does."""
    return cast(values.view(np.int32), "float32", dtype)


def all_finite(bits: np.ndarray, dtype: str) -> bool:
    """Check that none of the values that these bit patterns stand for is infinite or NaN."""
    if dtype not in _INFINITY:
        return bool(np.isfinite(as_float32(bits, dtype)).all())
    return bool((bits & np.iinfo(bits.dtype).max).max(initial=0) < _INFINITY[dtype])


def cast(bits: np.ndarray, stored: str, wanted: str) -> np.ndarray:
    """Convert bit patterns of the type `stored` to those of the type `wanted`, rounding as torch does.

    Returns:
        Integers of `integer_type(wanted)` in the same shape; `bits` itself if the types are the same.
    """
    if stored == wanted:
        return bits
    import torch  # only here: see the top of this file

    values = torch.from_numpy(bits).view(getattr(torch, stored)).to(getattr(torch, wanted))
    return values.view(getattr(torch, integer_type(wanted).name)).numpy()
