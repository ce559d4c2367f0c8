"""Checks the files and folders that a command line names, before anything is read or written."""

import argparse
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from knowshift.runtime.errors import KnowshiftError

Kind = Literal["file", "folder", "file or folder", "new file", "new folder"]


@dataclass(frozen=True)
class Place:
    """What an argument that is a path has to be.

    Attributes:
        flag: the argument.
        kind: what it names; a new file or folder is written, and may be there already.
    """

    flag: str
    kind: Kind


def path(text: str) -> Path:
    """Take a path from a command line, as argparse's `type`."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def check_paths(given: Mapping[Place, Iterable[Path]]) -> None:
    """Check that what is read is there, and that what is written can be and overwrites nothing that is read.

    Args:
        given: the paths of each argument.

    Raises:
        KnowshiftError: says what is wrong with the first that is wrong.
    """
    taken: dict[str, str] = {}  # the files and folders that are read, and the files that are written, by real path
    for place, paths in given.items():
        for path in paths:
            if place.kind.startswith("new"):
                _check_new(place, path)
            else:
                _check_there(place, path)
                taken.setdefault(os.path.realpath(path), place.flag)
    for place, paths in given.items():
        for path in paths if place.kind == "new file" else ():
            other = taken.setdefault(os.path.realpath(path), place.flag)
            if other != place.flag:
                raise KnowshiftError(f"{path} is given as {other} and as {place.flag}, which is written; change one")


def _mode(path: Path) -> int | None:
    """Return the type bits of what a path leads to; None if nothing is there.

    Raises:
        KnowshiftError: the path cannot be followed: it is too long, a link to itself, or in a closed folder.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a ValueError: it holds a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise KnowshiftError(f"{str(path)[:200]} cannot be opened ({reason})") from None


def _check_there(place: Place, path: Path) -> None:
    """Check that a file or folder that is read is there."""
    mode = _mode(path)
    if mode is None:
        raise KnowshiftError(
            f"{path} does not exist; {place.flag} names a {place.kind} (those of a run are made by it)"
        )
    right = {"file": stat.S_ISREG(mode), "folder": stat.S_ISDIR(mode)}
    if not right.get(place.kind, any(right.values())):
        raise KnowshiftError(f"{path} is a {_name(mode)}; {place.flag} names a {place.kind}")
    if not os.access(path, os.R_OK):
        raise KnowshiftError(f"{path} cannot be read (permission denied); {place.flag} names a {place.kind}")


def _check_new(place: Place, path: Path) -> None:
    """Check that a file or folder can be written."""
    kind = place.kind.removeprefix("new ")
    mode = _mode(path)
    if mode is not None and not (stat.S_ISDIR(mode) if kind == "folder" else stat.S_ISREG(mode)):
        raise KnowshiftError(f"{path} is a {_name(mode)}; {place.flag} names the {kind} to write")
    above = path.absolute().parent
    while _mode(above) is None:
        above = above.parent
    if not above.is_dir():
        raise KnowshiftError(f"{path} cannot be written, because {above} is a file; {place.flag} names a {kind}")
    if not os.access(above, os.W_OK | os.X_OK):
        raise KnowshiftError(f"{path} cannot be written (permission denied in {above}); choose another {place.flag}")


def _name(mode: int) -> str:
    """Say what a file of this type is called."""
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "device or pipe"
