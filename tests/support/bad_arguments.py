"""Starts scripts in one process with arguments that cannot be, and tells what each of them did.

    python bad_arguments.py SANDBOX < SCRIPTS

Reads a JSON list of paths of scripts, and writes one JSON object: for each script the cases that were tried, and the
heavy packages that were imported meanwhile, which should be none. Arguments are made from what the script's own parser
declares, so a new one is tried without being listed here.
"""

import contextlib
import importlib.util
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

HEAVY = {"torch", "transformers", "pandas", "altair", "numba", "peft"}
HUGE = "9" * 5000
NO_NUMBER = ["0", "-3", "x", "1.5", "nan", "inf", "", HUGE, "true", "1 2"]
# What no argument of this flag may be, where its type allows more than numbers or names.
BY_FLAG = {
    "--device": ["banana", "cuda:x", "cuda:-1", "CPU", "", "cuda:0\n"],
    "--spec": ["null", "[]", '"x"', "5", "{", "", '{"no_such_key": 1}', "[" * 100_000, '{"a": 1, "a": 2}', f"[{HUGE}]"],
    "--models": ["../x", "", "a/b", "-", "x" * 300],
    "--tables": ["../x", "", "a/b", "A"],
    "--gpus": [value for value in NO_NUMBER if value != "0"],
    "--gradient-checkpointing": ["2", *NO_NUMBER[1:]],
    "--tensorboard": ["2", *NO_NUMBER[1:]],
    "--save-every": ["-1", "x", "nan", "inf", ""],
    "--at-once": [value for value in NO_NUMBER if value != "0"],
}
FREE = {"--code", "--folder", "--kept", "--reason", "--experiment"}  # any text is right
# Texts: what they hold is checked where it is used.
FREE_OPTIONS = {"name", "draw", "region", "location", "digest", "system", "request"}


class Captured(Exception):
    """Holds a parser on the point of reading its command line."""


def load(path: Path) -> ModuleType:
    """Import a script as a module."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parser_of(module: ModuleType) -> Any:
    """Return the parser that a script makes."""

    def capture(self: Any, *_: Any) -> None:
        raise Captured(self)

    original, module.CommandLine.read = module.CommandLine.read, capture
    try:
        module.main()
    except Captured as captured:
        return captured.args[0]
    finally:
        module.CommandLine.read = original


def valid(parser: Any, sandbox: Path) -> dict[str, list[str]]:
    """Return arguments that the parser accepts: files and folders that are there, and required options."""
    given: dict[str, list[str]] = {}
    for number, place in enumerate(parser._places.values()):
        there = {"file": sandbox / "file", "folder": sandbox / "folder", "file or folder": sandbox / "file"}
        given[place.flag] = [str(there.get(place.kind, sandbox / f"new{number}"))]
    for action in parser._actions:
        if action.required and action.option_strings[0] not in given:
            given[action.option_strings[0]] = ["x"]
    for flags in parser._alternatives:
        for flag in flags[1:]:
            given.pop(flag, None)
    return given


def path_cases(parser: Any, sandbox: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield, for each argument that is a path, paths that cannot be: a kind, the flag and the values."""
    for place in parser._places.values():
        new, kind = place.kind.startswith("new"), place.kind.removeprefix("new ")
        yield "empty path", place.flag, [""]
        yield "path too long", place.flag, [str(sandbox / ("x" * 5000))]
        yield "null character", place.flag, [f"{sandbox}/a\0b"]
        yield "link to itself", place.flag, [str(sandbox / "loop")]
        yield "below a file", place.flag, [str(sandbox / "file/x")]
        yield "device for a file", place.flag, ["/dev/null"]
        if not new:
            yield "nothing there", place.flag, [str(sandbox / "missing")]
        if kind == "file":
            yield "folder for a file", place.flag, [str(sandbox / "folder")]
        if kind == "folder":
            yield "file for a folder", place.flag, [str(sandbox / "file")]
        if place.kind == "new file" and any(not other.kind.startswith("new") for other in parser._places.values()):
            read = [p for p in parser._places.values() if "file" in p.kind and not p.kind.startswith("new")]
            if read:
                yield "input overwritten", place.flag, [str(sandbox / "file")]


def option_cases(parser: Any) -> Iterator[tuple[str, str, list[str]]]:
    """Yield, for each other argument, values that cannot be: a kind, the flag and the values."""
    from pydantic.fields import FieldInfo

    from cli.command_line import _allowed, _plain_type  # how the command line reads a field

    groups = [*([parser._options] if parser._options else []), *parser._plain]
    fields: dict[str, tuple[str, FieldInfo]] = {
        flag: (name, group.model.model_fields[name]) for group in groups for name, flag in group.flags.items()
    }
    for action in parser._actions:
        flag = action.option_strings[0]
        if flag in {place.flag for place in parser._places.values()} | FREE or flag in ("-h", "--json"):
            continue
        name, info = fields.get(flag, ("", None))
        if flag in BY_FLAG:
            wrong = BY_FLAG[flag]
        elif info is None or _allowed(info):
            wrong = ["banana", "", "NULL", "[]"]
        elif _plain_type(info) in (int, float):
            wrong = [value for value in NO_NUMBER if not fits(info, value)]
            assert len(wrong) >= 6, f"{flag} takes {sorted(set(NO_NUMBER) - set(wrong))}"
        elif _plain_type(info) is str:
            wrong = [value for value in ("", "x\ny", "/../") if not fits(info, value)]
            assert wrong or name in FREE_OPTIONS, f"{flag} takes any text: bound it, or list it as free"
        else:
            wrong = ["5", '"x"', "[[]]", "{", "", "[" * 100_000, '{"no": {"such": "thing"}}']
        for value in wrong:
            yield f"wrong value {value[:9]!r}", flag, [value]


def fits(info: Any, value: str) -> bool:
    """Tell whether a field takes a value."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(info.rebuild_annotation()).validate_python(value)
    except ValidationError:
        return False
    return True


def whole(sandbox: Path) -> list[tuple[str, int, int]]:
    """List everything below the sandbox, with size and time."""
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in sandbox.rglob("*"))


def start(module: ModuleType, arguments: list[str]) -> tuple[Any, str]:
    """Run a script as its file does, and return its exit status and what it wrote to standard error."""
    from cli.command_line import run

    said, sys.argv = io.StringIO(), [f"{module.__name__}.py", *arguments]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            run(module.main)
    except SystemExit as end:
        return end.code, said.getvalue()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300], said.getvalue()
    return 0, said.getvalue()


def cases_of(module: ModuleType, sandbox: Path) -> list[dict[str, Any]]:
    """Try everything that cannot be on one script."""
    parser = parser_of(module)
    right = valid(parser, sandbox)
    tried = [("unknown argument", "--no-such-thing", ["1"]), *path_cases(parser, sandbox), *option_cases(parser)]
    tried += [("argument missing", flag, []) for flag, _ in right.items() if required(parser, flag)]
    told = []
    for kind, flag, values in tried:
        given = {other: right[other] for other in right if other != flag and not rivals(parser, flag, other)}
        if kind != "argument missing":
            given[flag] = values
        arguments = [text for other, texts in given.items() for text in [f"{other}={texts[0]}"]]
        before = whole(sandbox)
        status, said = start(module, arguments)
        told.append({"kind": kind, "flag": flag, "status": status, "said": said, "written": before != whole(sandbox)})
    return told


def required(parser: Any, flag: str) -> bool:
    """Tell whether an argument has to be given."""
    return any(action.required for action in parser._actions if flag in action.option_strings)


def rivals(parser: Any, flag: str, other: str) -> bool:
    """Tell whether two arguments are alternatives."""
    return any(flag in flags and other in flags for flags in parser._alternatives)


def main() -> None:
    """Try all scripts."""
    sandbox = Path(sys.argv[1])
    (sandbox / "folder").mkdir()
    (sandbox / "file").write_text("x")
    (sandbox / "loop").symlink_to("loop")
    os.chdir(sandbox)
    scripts = [Path(path) for path in json.load(sys.stdin)]
    told = {path.stem: cases_of(load(path), sandbox) for path in scripts}
    json.dump({"scripts": told, "heavy": sorted(HEAVY & set(sys.modules))}, sys.__stdout__)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2] / "scripts"))
    main()
