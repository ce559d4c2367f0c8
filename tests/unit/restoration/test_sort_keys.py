"""Sort keys of every strategy, against definitions in plain Python."""

import hashlib
import json
import struct

import numpy as np
import pytest

from knowshift.restoration.sort_keys import LARGEST, Absolute, Bottom, Random, SignAgreeing, Smallest, SortKeys, Top
from knowshift.weights.versions import Piece

SIZE, WORDS = 300, 1 << 64


def piece(name: str = "a.weight", start: int = 0, stop: int = SIZE) -> Piece:
    """Elements of a tensor of which every third did not change."""
    rng = np.random.default_rng(3)
    base = rng.normal(size=SIZE).astype(np.float32)
    tuned = np.where(np.arange(SIZE) % 3, base + rng.normal(size=SIZE).astype(np.float32), base).astype(np.float32)
    bits = (values[start:stop].view(np.int32) for values in (base, tuned))
    return Piece(name, start, "float32", *bits)


def drawn(seed: int, name: str, index: int) -> int:
    """The random key of one parameter: the upper 31 bits of SplitMix64, of a stream named by seed and tensor."""
    digest = hashlib.blake2b(json.dumps([seed, "restore", name], separators=(",", ":")).encode(), digest_size=8)
    state = (int.from_bytes(digest.digest(), "little") // 2 + (index + 1) * 0x9E3779B97F4A7C15) % WORDS
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % WORDS
    state = (state ^ state >> 27) * 0x94D049BB133111EB % WORDS
    return (state ^ state >> 31) >> 33


@pytest.mark.parametrize(("seed", "name"), [(0, "a.weight"), (0, "b.weight"), (7, "a.weight")])
def test_a_random_key_is_that_of_its_parameter_wherever_the_tensor_is_cut(seed: int, name: str) -> None:
    keys = Random(seed)
    expected = [drawn(seed, name, index) for index in range(SIZE)]
    for start, stop in ((0, SIZE), (0, 100), (100, SIZE), (SIZE - 1, SIZE)):
        got, changes, left_out = keys.of_piece(piece(name, start, stop))
        assert got.tolist() == expected[start:stop] and got.dtype == np.int32
        assert len(changes) == stop - start and left_out == 0


@pytest.mark.parametrize("keys", [Top(), Bottom(), Absolute(), Smallest()], ids=repr)
@pytest.mark.parametrize("skip", [True, False])
def test_other_keys_are_the_bits_of_the_change(keys: SortKeys, skip: bool) -> None:
    whole = piece()
    before, after = whole.base.view(np.float32), whole.tuned.view(np.float32)
    shown = [index for index in range(SIZE) if not skip or before[index] != after[index]]
    got, changes, left_out = keys.of_piece(whole, skip)
    assert left_out == SIZE - len(shown) == (SIZE // 3 if skip else 0) and got.min() >= 0
    for key, change, index in zip(got.tolist(), changes.tolist(), shown, strict=True):
        distance = np.abs(after[index] - before[index])
        relative = distance / (np.abs(before[index]) + np.float32(1e-8))
        assert np.float32(change) == relative
        ranked = distance if isinstance(keys, Absolute) else relative
        bits = struct.unpack("<i", struct.pack("<f", ranked))[0]
        assert key == (LARGEST - bits if isinstance(keys, Bottom | Smallest) else bits)
        assert keys.change_at(key) == ranked
    if not skip:
        assert got[0] == keys.unchanged_key
    if keys.by_relative_change:
        bits = changes.view(np.int32)
        assert np.array_equal(keys.from_changes(bits), got) and np.array_equal(keys.to_changes(got), bits)


def test_what_a_key_depends_on_is_known() -> None:
    every = [Top(), Bottom(), Absolute(), Smallest(), Random(1), SignAgreeing(())]
    assert [keys.by_value for keys in every] == [True, True, True, True, False, False]
    assert [keys.by_relative_change for keys in every] == [True, True, False, False, False, False]
    assert [keys.change_at(5) for keys in every[4:]] == [None, None]
