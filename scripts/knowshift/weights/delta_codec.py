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
    unsigned = np.dtype(f"u{width}")
    difference = tuned.view(unsigned) - base.view(unsigned)
    zigzag = (difference << unsigned.type(1)) ^ (difference.view(base.dtype) >> (8 * width - 1)).view(unsigned)
    planes = np.ascontiguousarray(zigzag[_order(base)].view(np.uint8).reshape(-1, width).T)
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
    unsigned = np.dtype(f"u{width}")
    try:
        if zstandard.frame_content_size(blob) != base.nbytes:  # asked first, as a bomb states terabytes
            raise zstandard.ZstdError("it has another size")
        stored = np.frombuffer(zstandard.ZstdDecompressor().decompress(blob), np.uint8)
    except zstandard.ZstdError as error:
        raise KnowshiftError(f"a chunk of the delta is damaged ({error}); make the delta again") from None
    zigzag = np.zeros(base.size, unsigned)
    planes = zigzag.view(np.uint8).reshape(-1, width)
    if width == 2:
        half = base.size // 2
        low, high = stored[:half], stored[half : 2 * half]
        planes[: 2 * half : 2, 0] = (low & 15) | (high << 4)
        planes[1 : 2 * half : 2, 0] = (low >> 4) | (high & 0xF0)
        planes[2 * half :, 0] = stored[2 * half : base.size]
        planes[:, 1] = stored[base.size :]
    else:
        planes[:] = stored.reshape(width, -1).T
    one = unsigned.type(1)
    difference = (zigzag >> one) ^ (unsigned.type(0) - (zigzag & one))
    tuned = np.empty_like(zigzag)
    tuned[_order(base)] = difference
    tuned += base.view(unsigned)
    return tuned.view(base.dtype)
