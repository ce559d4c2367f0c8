"""Reads the YAML files that users write, and says in one line what is wrong with one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from knowshift.runtime.errors import KnowshiftError

LARGEST_FILE = 10_000_000  # bytes
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
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise KnowshiftError(f"{path}: larger than {LARGEST_FILE:,} bytes, so it cannot be what is meant")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise KnowshiftError(f"{path}{missing}") from None
    except UnicodeDecodeError as error:
        raise KnowshiftError(f"{path}: not UTF-8 (byte {error.start}); save it in that encoding") from None
    except OSError as error:
        raise KnowshiftError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if node is None:
            return None
        _count(node, {}, path)
        for problem in _repeated_keys(node, set()):
            raise KnowshiftError(f"{path}: {problem}")
        return yaml.safe_load(text)
    except RecursionError:
        raise KnowshiftError(f"{path}: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise KnowshiftError(f"{path}: not valid YAML ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    """Say in one line what the parser met, and where."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return f"line {mark.line + 1}: {getattr(error, 'problem', None) or 'unexpected text'}"


def _count(node: yaml.Node, sizes: dict[int, int | None], path: Path) -> int:
    """Count the values below a node as if every alias were written out; `sizes` holds those of finished nodes."""
    if id(node) in sizes:
        if (known := sizes[id(node)]) is None:
            raise KnowshiftError(f"{path}: line {node.start_mark.line + 1} holds an alias of itself; write it out")
        return known
    sizes[id(node)] = None
    size = 1 + sum(_count(child, sizes, path) for child in _children(node))
    if size > MOST_VALUES:
        raise KnowshiftError(f"{path}: holds more than {MOST_VALUES:,} values once its aliases are written out")
    sizes[id(node)] = size
    return size


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
