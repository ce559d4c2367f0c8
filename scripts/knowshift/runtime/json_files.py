"""Reads JSON that comes from elsewhere, and says in one line what is wrong with it."""

import json
import os
import re
from pathlib import Path
from typing import Any

from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.user_files import read_text

DEEPEST = 50  # lists and objects within each other
LARGEST_OBJECT = 100_000_000  # bytes of a manifest, a configuration or an index
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|([\[{])|[\]}]')


def parse_json(text: str, where: str, remedy: str = "", distinct: bool = True) -> Any:
    """Parse a JSON text.

    Args:
        text: the text.
        where: the file that it stands in, with the line where there are several texts in it; or the argument.
        remedy: what to do where the text is not what it must be, or what it must hold.
        distinct: whether an object may give a key only once; otherwise its last value counts, as for most readers.

    Raises:
        KnowshiftError: the text is not JSON, is nested too deeply, gives a key twice or holds a number without end.
    """
    end = f"; {remedy}" if remedy else ""
    try:
        value = json.loads(text, object_pairs_hook=_distinct_keys if distinct else None)
        if _depth(text) > DEEPEST:
            raise RecursionError
    except RecursionError:
        raise KnowshiftError(f"{where}: nested too deeply{end}") from None
    except json.JSONDecodeError as error:
        raise KnowshiftError(f"{where}: {f'not valid JSON ({error})' if text.strip() else 'empty'}{end}") from None
    except _RepeatedKeyError as error:
        raise KnowshiftError(f"{where}: the key {str(error)!r} is given twice; leave one of them") from None
    except ValueError:  # Python refuses to convert numbers of thousands of digits
        raise KnowshiftError(f"{where}: holds a number of thousands of digits{end}") from None
    return value


def read_json_object(path: Path, remedy: str = "correct it") -> dict[str, Any]:
    """Read a JSON file that holds an object, such as a manifest or the configuration of a model.

    Args:
        path: the file.
        remedy: what to do where the file is not what it must be.

    Raises:
        FileNotFoundError: there is no such file.
        KnowshiftError: the file cannot be read, is too large, or is not a JSON object in UTF-8.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(path)
    value = parse_json(read_text(path, " does not exist", LARGEST_OBJECT, remedy), str(path), remedy, distinct=False)
    if not isinstance(value, dict):
        raise KnowshiftError(f"{path}: holds no JSON object; {remedy}")
    return value


def _depth(text: str) -> int:
    """Count how deeply lists and objects are nested in a JSON text that is valid."""
    depth = deepest = 0
    for found in _TOKENS.finditer(text):
        if found[1]:
            depth += 1
            deepest = max(deepest, depth)
        elif found[0][0] != '"':
            depth -= 1
    return deepest


class _RepeatedKeyError(Exception):
    """An object of a JSON text gives a key twice."""


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object from its keys and values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKeyError(next(name for name in names if names.count(name) > 1)[:60])
    return found
