"""Seeds follow from what they are for, and canonical JSON from values alone."""

import hashlib
import warnings

import numpy as np

from knowshift.canonical import canonical_json
from knowshift.randomness import counter_bits, counter_uniform, derive_seed, mix


def test_seeds_depend_on_their_purpose_and_keys_not_on_order() -> None:
    assert canonical_json({"b": 1, "a": [1]}) == canonical_json({"a": [1], "b": 1}) == '{"a":[1],"b":1}'
    assert len({derive_seed(1, "a", 1), derive_seed(1, "a", 2), derive_seed(2, "a", 1), derive_seed(1, "a")}) == 4
    assert all(0 <= derive_seed(1, n) < 2**63 for n in range(100))


def test_a_seed_is_half_of_the_64_bits_that_its_purpose_hashes_to() -> None:
    digest = hashlib.blake2b(b'[7,"draw",3]', digest_size=8).digest()
    assert derive_seed(7, "draw", 3) == int.from_bytes(digest, "little") // 2


def test_streams_are_those_of_splitmix64() -> None:
    """The first three numbers of the published generator from the seed 0, and one of them alone."""
    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert counter_bits(np.uint64(0), [0, 1, 2]).tolist() == first
    assert counter_bits(np.array([0, 5], np.uint64), 2)[0] == first[2]
    assert counter_bits(np.array([0, 5], np.uint64), 2)[1] != first[2]


def test_uniform_numbers_are_the_high_53_bits_of_a_draw() -> None:
    bits, drawn = counter_bits(np.uint64(3), range(1000)), counter_uniform(np.uint64(3), range(1000))
    assert drawn.tolist() == [(number >> 11) / 2**53 for number in bits.tolist()]
    assert drawn.min() >= 0 and drawn.max() < 1 and abs(drawn.mean() - 0.5) < 0.05


def test_a_single_number_wraps_without_a_warning() -> None:
    """numpy warns of single numbers that overflow, and not of arrays."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = counter_bits(np.uint64(2**64 - 1), 5)
        assert mix(np.uint64(2**64 - 1)) == mix(np.array([2**64 - 1], np.uint64))[0]
    assert one == counter_bits(np.array([2**64 - 1], np.uint64), [5])[0]
