"""Writes equal values as equal text, from which seeds, fact ids and the keys of unfinished work are made."""

import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Write a value as JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
