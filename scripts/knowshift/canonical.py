"""Writes equal values as equal text, from which seeds, fact ids and the keys of unfinished work are made."""

import json
from decimal import Decimal
from typing import Any


def canonical_json(value: Any) -> str:
    """Write a value as JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def plain_number(value: float) -> str:
    """Write a number as paths do, without trailing zeros or an exponent: 20.0 is 20."""
    return f"{Decimal(str(value)).normalize():f}"
