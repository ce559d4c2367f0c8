"""Weights as bit patterns: numpy holds them as signed integers of their width, whatever their type, bfloat16 too.

Types go by the names that torch gives them. What compares or restores weights on disk thus needs no torch, which takes
longer to load than a small model to compare.
"""

import numpy as np

WIDTHS = {  # bytes of a value
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "bool": 1, "uint8": 1,
    "int8": 1, "int16": 2, "int32": 4, "int64": 8,
}  # fmt: skip
_INFINITY = {"float64": 0x7FF << 52, "float32": 0xFF << 23, "float16": 0x1F << 10, "bfloat16": 0xFF << 7}


def integers(dtype: str) -> np.dtype:
    """The numpy type that holds bit patterns of a type."""
    return np.dtype(f"i{WIDTHS[dtype]}")


def as_float32(bits: np.ndarray, dtype: str) -> np.ndarray:
    """The values that bit patterns stand for; not a copy if they are of float32."""
    if dtype == "bfloat16":
        wide = bits.view(np.uint16).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    if dtype not in _INFINITY:
        bits, dtype = cast(bits, dtype, "float32"), "float32"
    return bits.view(dtype).astype(np.float32, copy=False)


def all_finite(bits: np.ndarray, dtype: str) -> bool:
    """Whether no value is infinite or not a number."""
    if dtype not in _INFINITY:
        return bool(np.isfinite(as_float32(bits, dtype)).all())
    return bool((bits & np.iinfo(bits.dtype).max).max(initial=0) < _INFINITY[dtype])


def cast(bits: np.ndarray, stored: str, wanted: str) -> np.ndarray:
    """The bit patterns of the same values in another type, rounded as torch does."""
    if stored == wanted:
        return bits
    import torch  # only here, see above

    values = torch.from_numpy(bits).view(getattr(torch, stored)).to(getattr(torch, wanted))
    return values.view(getattr(torch, integers(wanted).name)).numpy()
