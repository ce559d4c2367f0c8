"""Reads the YAML files that users write, and says in one line what is wrong with one."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from knowshift.runtime.errors import KnowshiftError, first_line
from knowshift.runtime.user_files import read_text

LARGEST_FILE = 200_000  # bytes, which take seconds to parse
LONGEST_NUMBER = 100  # characters
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OTHER_BASE = re.compile(r".*:.*|[-+]?0[0-9_]+")
MOST_VALUES = 1_000_000  # once every alias is written out


def read_yaml(path: Path, missing: str) -> Any:
    """Read a YAML file.

    Args:
        path: the file.
        missing: what to say, after the path, where there is no such file.

    Raises:
        KnowshiftError: the file does not exist, cannot be read, is not YAML in UTF-8, gives a key twice, is too large,
            or repeats itself without end by aliases.
    """
    text = read_text(path, missing, LARGEST_FILE)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, path)
        for problem in _repeated_keys(node, set()):
            raise KnowshiftError(f"{path}: {problem}")
        return loader.construct_document(node)
    except RecursionError:
        raise KnowshiftError(f"{path}: nested too deeply") from None
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError, OverflowError) as error:
        raise KnowshiftError(f"{path}: not valid YAML ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    """Say in one line what the parser met, and where."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return first_line(error)
    return f"line {mark.line + 1}: {getattr(error, 'problem', None) or 'unexpected text'}"


def _count(node: yaml.Node, sizes: dict[int, int | None], path: Path) -> int:
    """Count the values below a node as if every alias were written out; `sizes` holds those of finished nodes."""
    if id(node) in sizes:
        if (known := sizes[id(node)]) is None:
            raise KnowshiftError(f"{path}: line {node.start_mark.line + 1} holds an alias of itself; write it out")
        return known
    if isinstance(node, yaml.ScalarNode) and (problem := _problem_with_scalar(node)):
        raise KnowshiftError(f"{path}: line {node.start_mark.line + 1} holds {problem}")
    sizes[id(node)] = None
    size = 1 + sum(_count(child, sizes, path) for child in _children(node))
    if size > MOST_VALUES:
        raise KnowshiftError(f"{path}: holds more than {MOST_VALUES:,} values once its aliases are written out")
    sizes[id(node)] = size
    return size


def _problem_with_scalar(node: yaml.ScalarNode) -> str | None:
    """Say what is wrong with a single value, as it is written; None if nothing is."""
    if any("\ud800" <= character <= "\udfff" for character in node.value):
        return "half of a character (a lone surrogate); write the character itself"
    if node.tag != "tag:yaml.org,2002:str" and len(node.value) > LONGEST_NUMBER:
        return f"a number of {len(node.value):,} characters; at most {LONGEST_NUMBER} are allowed"
    if node.tag in _NUMBERS and _OTHER_BASE.fullmatch(node.value):
        return (
            f"{node.value}, which YAML reads as a number to the base 60 or 8; write it with digits alone, or quote it"
        )
    return None


def _children(node: yaml.Node) -> list[yaml.Node]:
    """List the nodes directly below a node: the items of a list, or the keys and values of a mapping."""
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    return [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else []


def _repeated_keys(node: yaml.Node, seen: set[int]) -> Iterator[str]:
    """Say which keys a mapping gives twice, at any depth. Merge keys (`<<`) may stand there twice."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if key.value in lines:
                    yield f"{key.value} is given twice, in lines {lines[key.value]} and {line}; leave one of them"
                lines[key.value] = line
    for child in _children(node):
        yield from _repeated_keys(child, seen)
