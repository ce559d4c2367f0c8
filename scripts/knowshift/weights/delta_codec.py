"""The encoding of one chunk of a delta: differences of bit patterns, compressed (see `deltas` for why it is small)."""

import numpy as np
import zstandard

from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.versions import PIECE

CHUNK = PIECE  # elements of a tensor that are encoded together; part of the format
ZSTD_LEVEL = 1  # higher levels of compression gain under 1 % here and cost several times the time


def _order(base: np.ndarray) -> np.ndarray:
    """Return the indices that sort a chunk by the eight bits after the sign: in float32 and bfloat16 the exponent."""
    unsigned = np.dtype(f"u{base.itemsize}").type
    exponents = (base.view(unsigned) << unsigned(1)) >> unsigned(8 * base.itemsize - 8)
    return np.argsort(exponents.astype(np.uint8), kind="stable")


def encode_chunk(base: np.ndarray, tuned: np.ndarray) -> bytes:
    """Compress the difference between a chunk before and after training.

    Args:
        base: bit patterns before training, one-dimensional signed integers.
        tuned: bit patterns after training, of the same type and length.
    """
    width = base.itemsize
    unsigned = np.dtype(f"u{width}").type
    difference = tuned.view(unsigned) - base.view(unsigned)
    zigzag = (difference << unsigned(1)) ^ (difference.view(base.dtype) >> (8 * width - 1)).view(unsigned)
    zigzag = zigzag[_order(base)]
    planes = np.stack([(zigzag >> unsigned(8 * byte)).astype(np.uint8) for byte in range(width)])  # (width, numbers)
    if width == 2:  # most differences are below 16: two of them share a byte, and rare high halves lie apart
        first, second = planes[0, : base.size & -2].reshape(-1, 2).T
        low = (first & 15) | (second << 4)
        high = (first >> 4) | (second & 0xF0)
        planes = np.concatenate([low, high, planes[0, base.size & -2 :], planes[1]])
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(planes.data)


def decode_chunk(base: np.ndarray, blob: bytes | memoryview) -> np.ndarray:
    """Restore a chunk after training from the chunk before training and what `encode_chunk` made of the two.

    Args:
        base: bit patterns before training, one-dimensional signed integers.
        blob: the compressed difference.

    Returns:
        Bit patterns after training, of the type and length of `base`.

    Raises:
        KnowshiftError: the blob is damaged, or stands for another number of bytes.
    """
    width = base.itemsize
    unsigned = np.dtype(f"u{width}").type
    try:
        if zstandard.frame_content_size(blob) != base.nbytes:  # asked first, as a bomb states terabytes
            raise zstandard.ZstdError("it has another size")
        stored = np.frombuffer(zstandard.ZstdDecompressor().decompress(blob), np.uint8)
    except zstandard.ZstdError as error:
        raise KnowshiftError(f"a chunk of the delta is damaged ({error}); make the delta again") from None
    if width == 2:
        half = base.size // 2
        low, high = stored[:half], stored[half : 2 * half]
        first = np.empty(base.size, np.uint8)
        first[: 2 * half : 2] = (low & 15) | (high << 4)
        first[1 : 2 * half : 2] = (low >> 4) | (high & 0xF0)
        first[2 * half :] = stored[2 * half : base.size]
        planes = [first, stored[base.size :]]
    else:
        planes = stored.reshape(width, -1)
    zigzag = planes[0].astype(unsigned)
    for byte, plane in enumerate(planes[1:], 1):
        if plane.any():  # most changes are small, so the high bytes of whole chunks are often 0
            zigzag |= plane.astype(unsigned) << unsigned(8 * byte)
    sign = zigzag & unsigned(1)
    np.negative(sign, out=sign)
    zigzag >>= unsigned(1)
    zigzag ^= sign
    tuned = sign  # its memory is free
    tuned[_order(base)] = zigzag
    tuned += base.view(unsigned)
    return tuned.view(base.dtype)
