"""Randomness by name: a number depends on what it is for, never on order, batch or process."""

import hashlib

import numpy as np

from knowshift.canonical import canonical_json

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed from the experiment's seed and the names of what it is for."""
    digest = hashlib.blake2b(canonical_json([seed, *purpose]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def mix(values: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers one to one (the finaliser of SplitMix64; Steele et al., OOPSLA 2014).

    Args:
        values: unsigned 64-bit integers, any shape.
    """
    with np.errstate(over="ignore"):
        mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def counter_bits(keys: np.ndarray, counters: np.ndarray | int) -> np.ndarray:
    """64 random bits for each (key, counter), without any state: element i of stream `key` can be had alone."""
    with np.errstate(over="ignore"):
        return mix(keys + (np.asarray(counters, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)


def counter_uniform(keys: np.ndarray, counters: np.ndarray | int) -> np.ndarray:
    """A uniform float64 in [0, 1) for each (key, counter)."""
    return (counter_bits(keys, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53
