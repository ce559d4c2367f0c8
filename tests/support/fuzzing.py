"""What the fuzz tests share: junk, damage, and the check that whatever comes in ends well.

To end well is to succeed, or to say in one `error:` line what is wrong: no traceback, no 10 s of computing, and nothing
half made.
"""

import contextlib
import copy
import datetime
import gc
import io
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from hypothesis import strategies as st

from cli.command_line import run
from knowshift.runtime.errors import KnowshiftError

T = TypeVar("T")

LONGEST = 10  # seconds of processor time that any bad input may take

TEXTS = [
    "", " ", "{x}", "{", "../x", "/", "\0", "a\nb", "\ud800", "\u200b", "\u202e", "é", "e\u0301", "-1", "--spec",
    "null", "true", "1e999", "nan", "0-99999999999", "3-1", "0-3", "(", "(a+)+$", "%s", "$(x)", "[X]", "[X] [X]",
    "{question}", "all", "mixed", "level0", "lora", "full", "=1+1", "the", "#REF!", "9" * 5000, "a" * 300,
]  # fmt: skip
NUMBERS = [0, -1, 8, 2**31, 2**62, -(2**63), 2**64, 10**40, 0.5, -0.0, 1e300, 1e-320, float("inf"), float("nan")]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 99), st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.text(max_size=9)
)
JUNK = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(TEXTS) | st.text(max_size=9), part),
    max_leaves=6,
)  # whatever JSON can hold
DATES = st.just(datetime.date(2025, 1, 1))  # YAML reads dates


class TooSlow(BaseException):
    """An input took longer than any may; no `except Exception` catches this."""


@contextlib.contextmanager
def bounded(seconds: float = LONGEST) -> Iterator[None]:
    """Raise `TooSlow` where the block takes more than so many seconds of processor time."""

    def stop(*_: object) -> None:
        raise TooSlow(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def fresh_folder() -> Iterator[Path]:
    """Yield an empty folder, and check afterwards that no half-made file or folder is left in it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        yield folder
        left = [str(path) for path in folder.rglob("*.partial")]
        assert not left, f"half made: {left}"


def ends_well(call: Callable[[], T]) -> T | None:
    """Call a function that may only succeed or raise a `KnowshiftError`.

    Returns:
        What the function returned; None if it refused.
    """
    try:
        with bounded():
            return call()
    except KnowshiftError as error:
        assert str(error).strip() and "Traceback" not in str(error)
        return None


def runs_well(script: str, arguments: list[str], output: Path | None = None) -> bool:
    """Run a script in this process, which may only succeed or say in one line what is wrong.

    Args:
        script: its name, such as build_facts.
        arguments: its command line.
        output: a file or folder that must be there if it succeeded, and not if it failed.

    Returns:
        Whether it succeeded.
    """
    status, said = _run(script, arguments)
    assert status in (0, 1, 2), (status, said)
    if status:
        assert "Traceback" not in said, said
        errors = re.findall(r"^(?:\S+: )?error: .+", said, re.MULTILINE)
        assert len(errors) == 1, said
    if output is not None:
        assert output.exists() == (status == 0), (status, said)
    return status == 0


def _run(script: str, arguments: list[str]) -> tuple[int, str]:
    """Run a script's `main` as its last lines do, and return the exit status and what it said on standard error."""
    main = import_module(script).main
    argv, paths, ended = sys.argv, list(sys.path), signal.getsignal(signal.SIGTERM)
    said = io.StringIO()
    try:
        sys.argv = [f"{script}.py", *arguments]
        # `run` freezes what it leaves, for processes that end then; this one goes on.
        silent = contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO())
        with mock.patch.object(gc, "freeze"), silent[0], silent[1], bounded():
            run(main)
        return 0, said.getvalue()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1, said.getvalue()
    finally:
        sys.argv, sys.path[:] = argv, paths
        signal.signal(signal.SIGTERM, ended)


@st.composite
def spoiled(draw: st.DrawFn, good: Any, junk: st.SearchStrategy[Any] = JUNK) -> Any:
    """Draw a copy of nested lists and mappings in which one to three places hold junk, are gone, or are new."""
    root = [copy.deepcopy(good)]
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = root
        key: Any = 0
        while isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 4)):
            holder = holder[key]
            key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if action == "remove" and holder is not root:
            del holder[key]
        elif action == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(TEXTS) | st.text(max_size=9))] = draw(junk)
        elif action == "add" and holder is not root:
            holder.append(draw(st.just(holder[key]) | junk))
        else:
            holder[key] = draw(junk)
    return root[0]


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Draw a copy of some bytes with one to three kinds of damage: cut, overwritten, inserted, repeated, or zeroed."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 40)))
        action = draw(st.sampled_from(["cut", "overwrite", "insert", "repeat", "zero"]))
        if action == "cut":
            del data[start : None if draw(st.booleans()) else stop]
        elif action == "overwrite":
            data[start:stop] = draw(st.binary(min_size=stop - start, max_size=stop - start))
        elif action == "insert":
            data[start:start] = draw(st.sampled_from(TEXTS).map(_encoded) | st.binary(max_size=9))
        elif action == "repeat":
            data[start:start] = data[start:stop]
        else:
            data[start:stop] = bytes(stop - start)
    return bytes(data)


def _encoded(text: str) -> bytes:
    """Encode a text in UTF-8, lone surrogates too, as careless programs do."""
    return text.encode("utf-8", "surrogatepass")


def words_of(options: Mapping[str, Any]) -> st.SearchStrategy[list[str]]:
    """Draw command lines of some flags with good values, of which a few are spoiled, missing, doubled or unknown.

    Args:
        options: good values by flag.
    """
    texts = st.sampled_from([*filter(_can_be_passed, TEXTS), "\udcff"]) | st.text(max_size=9).filter(_can_be_passed)
    spoilt = texts | SCALARS.map(str).filter(_can_be_passed)

    @st.composite
    def lines(draw: st.DrawFn) -> list[str]:
        line = [[flag, str(value)] for flag, value in options.items()]
        for _ in range(draw(st.integers(0, 3))):
            place = draw(st.integers(0, len(line) - 1)) if line else 0
            action = draw(st.sampled_from(["value", "value", "value", "missing", "bare", "twice", "unknown"]))
            if not line or action == "unknown":
                line.append([draw(texts), draw(spoilt)])
            elif action == "value":
                line[place] = [line[place][0], draw(spoilt)]
            elif action == "missing":
                del line[place]
            elif action == "bare":
                line[place] = line[place][:1]
            else:
                line.append(line[place])
        return [word for pair in line for word in pair]

    return lines()


def _can_be_passed(text: str) -> bool:
    """Tell whether a text can be an argument of a process: one that stands for bytes, none of them zero."""
    with contextlib.suppress(UnicodeEncodeError):
        return b"\0" not in os.fsencode(text)
    return False
