"""Seeds follow from what they are for, and canonical JSON from values alone."""

from knowshift.canonical import canonical_json
from knowshift.randomness import derive_seed


def test_seeds_depend_on_their_purpose_and_keys_not_on_order() -> None:
    assert canonical_json({"b": 1, "a": [1]}) == canonical_json({"a": [1], "b": 1}) == '{"a":[1],"b":1}'
    assert len({derive_seed(1, "a", 1), derive_seed(1, "a", 2), derive_seed(2, "a", 1), derive_seed(1, "a")}) == 4
    assert all(0 <= derive_seed(1, n) < 2**63 for n in range(100))
