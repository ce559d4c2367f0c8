"""Reads JSON files that come from elsewhere, and says in one line what is wrong with one."""

import json
from pathlib import Path
from typing import Any

from knowshift.runtime.errors import KnowshiftError

LARGEST_FILE = 100_000_000  # bytes


def read_json_object(path: Path, remedy: str = "correct it") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        remedy: what to do where the file is not what it must be.

    Raises:
        FileNotFoundError: there is no such file.
        KnowshiftError: the file cannot be read, is too large, or is not a JSON object in UTF-8.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise KnowshiftError(f"{path} is larger than {LARGEST_FILE:,} bytes, so it is not what is meant; {remedy}")
        value = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KnowshiftError(f"{path} cannot be read ({error.strerror}); {remedy}") from None
    except RecursionError:
        raise KnowshiftError(f"{path} is damaged (nested too deeply); {remedy}") from None
    except ValueError as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise KnowshiftError(f"{path} is damaged ({str(error).splitlines()[0]}); {remedy}") from None
    if not isinstance(value, dict):
        raise KnowshiftError(f"{path} is damaged (it holds no JSON object); {remedy}")
    return value
