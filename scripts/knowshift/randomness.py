"""Random numbers by name: a number depends on what it is for, never on order, batch or process.

NumPy's counter-based generator (Philox) would need one object for each stream; `counter_bits` takes arrays of them.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from knowshift.canonical import canonical_json

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive a 63-bit seed from the experiment's seed and the names of what it is for."""
    digest = hashlib.blake2b(canonical_json([seed, *purpose]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def mix(values: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers one to one (the finaliser of SplitMix64; Steele et al., OOPSLA 2014).

    Args:
        values: uint64, any shape.

    Returns:
        uint64 of the same shape.
    """
    with np.errstate(over="ignore"):
        mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def counter_bits(keys: np.ndarray | np.uint64, counters: npt.ArrayLike) -> np.ndarray:
    """Draw 64 random bits for each pair of a key and a counter, without state.

    Any element of a stream can be computed alone.

    Args:
        keys: uint64, one stream each; broadcast against `counters`.
        counters: non-negative integers, the position in the stream.

    Returns:
        uint64 of the broadcast shape.
    """
    with np.errstate(over="ignore"):
        return mix(keys + (np.asarray(counters, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)


def counter_uniform(keys: np.ndarray | np.uint64, counters: npt.ArrayLike) -> np.ndarray:
    """Draw a uniform float64 in [0, 1) for each pair of a key and a counter; see `counter_bits` for the shapes."""
    return (counter_bits(keys, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53
