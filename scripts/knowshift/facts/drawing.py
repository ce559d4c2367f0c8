"""Which facts training sets, and the examples of the few-shot prompt, may be drawn from."""

from collections.abc import Mapping
from typing import Any


def may_be_drawn(fact: Mapping[str, Any]) -> bool:
    """Tell whether training sets may draw a fact: it is in-domain and train, and no test fact asks its question."""
    return fact["domain"] == "in_domain" and fact["split"] == "train" and not fact["also_in_test"]
