"""The encoding of a chunk of a delta loses nothing, stays as it is defined, and refuses what was damaged."""

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.delta_codec import decode_chunk, encode_chunk
from knowshift.weights.torch_bits import bits_of


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=50), st.randoms(use_true_random=False))
def test_any_bit_pattern_survives(values: list[float], draw) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        tuned = torch.tensor(values).to(dtype)
        base = torch.tensor(draw.sample(values, len(values))).to(dtype)
        back = decode_chunk(bits_of(base), encode_chunk(bits_of(base), bits_of(tuned)))
        assert np.array_equal(back, bits_of(tuned))


def planes(base: np.ndarray, tuned: np.ndarray) -> bytes:
    """What is compressed, by the definition of the format in docs/method.md, number by number."""
    width = base.itemsize
    values = 1 << 8 * width
    order = sorted(
        range(len(base)), key=lambda i: 2 * int(base[i]) % values >> 8 * width - 8
    )  # eight bits after the sign
    zigzag = []
    for i in order:
        difference = (int(tuned[i]) - int(base[i]) + values // 2) % values - values // 2
        zigzag.append(2 * difference if difference >= 0 else -2 * difference - 1)
    parts = [bytes(number >> 8 * byte & 255 for number in zigzag) for byte in range(width)]
    if width == 2:
        low, even = parts[0], len(zigzag) // 2 * 2
        pairs = list(zip(low[:even:2], low[1:even:2], strict=True))
        halves = [bytes(a & 15 | (b & 15) << 4 for a, b in pairs), bytes(a >> 4 | b >> 4 << 4 for a, b in pairs)]
        parts = [*halves, low[even:], parts[1]]
    return b"".join(parts)


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8"])
@pytest.mark.parametrize("size", [0, 1, 2, 7, 500])
def test_what_is_stored_is_what_the_format_says(kind: str, size: int) -> None:
    rng = np.random.default_rng(size)
    extremes = np.iinfo(kind)
    base = rng.integers(extremes.min, extremes.max, size, kind, endpoint=True)
    near = base + rng.integers(-20, 20, size).astype(kind)
    for tuned in (near, base.copy(), rng.integers(extremes.min, extremes.max, size, kind, endpoint=True)):
        blob = encode_chunk(base, tuned)
        assert zstandard.ZstdDecompressor().decompress(blob) == planes(base, tuned)
        back = decode_chunk(base, memoryview(blob))
        assert back.dtype == base.dtype and np.array_equal(back, tuned)


@pytest.mark.parametrize("blob", [b"", b"x" * 40, zstandard.compress(bytes(6)), zstandard.compress(bytes(10))])
def test_a_chunk_of_another_size_or_of_none_is_refused(blob: bytes) -> None:
    with pytest.raises(KnowshiftError, match=r"a chunk of the delta is damaged .*; make the delta again"):
        decode_chunk(np.zeros(4, np.int16), blob)
    whole = encode_chunk(np.zeros(4000, np.int32), np.arange(4000, dtype=np.int32))
    with pytest.raises(KnowshiftError, match="damaged"):
        decode_chunk(np.zeros(4000, np.int32), whole[: len(whole) // 2])
