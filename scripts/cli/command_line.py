"""The command line that all scripts share.

What changes a result is a field of the script's `Options` dataclass. A person gives it as a flag, a rule gives all of it
at once as `--spec JSON`; both come from the one definition. What does not (files, threads, devices) is a plain argument.
"""

import argparse
import dataclasses
import gc
import json
import signal
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from knowshift.runtime.errors import Interrupted, KnowshiftError
from knowshift.runtime.progress import start_logging

O = TypeVar("O")  # noqa: E741

# What is imported stays, and looking for garbage in it takes a fifth of the time that torch and transformers need to be imported:
# hence scripts import this module first. `run` sets back what is set here.
THRESHOLDS = gc.get_threshold()
gc.set_threshold(100_000)

TRY_AGAIN = 75  # exit status EX_TEMPFAIL of sysexits.h; SLURM's RequeueExit can name it


def option(help: str, default: Any = dataclasses.MISSING) -> Any:
    """A field of an `Options` dataclass with its help text; mutable defaults are copied."""
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


class CommandLine(argparse.ArgumentParser):
    """An argument parser whose description is the script's docstring and whose options are typed."""

    def __init__(self, docstring: str, options: type[O] | None = None) -> None:
        super().__init__(
            description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        self.options = options
        if options is None:
            return
        group = self.add_argument_group("options that change the result")
        group.add_argument("--spec", metavar="JSON", help="all of these at once, as one JSON object")
        for field in dataclasses.fields(options):
            flag = "--" + field.name.replace("_", "-")
            default = _default(field)
            note = "" if default is dataclasses.MISSING else f" (default: {default})"
            group.add_argument(
                flag, metavar=_metavar(field), default=None, help=f"{field.metadata['help']}{note}".replace("%", "%%")
            )

    def path(
        self, flag: str, help: str, required: bool = True, many: bool = False, default: Path | None = None
    ) -> None:
        """A file or directory argument (or a list of them)."""
        wanted = required and default is None
        self.add_argument(flag, type=Path, required=wanted, default=default, help=help, nargs="*" if many else None)

    def versions(self) -> None:
        """Arguments of scripts that compare a model before and after training."""
        self.path("--base", "model directory before training")
        self.path("--tuned", "model directory after training", required=False)
        self.path("--delta", "delta directory, instead of --tuned", required=False)
        self.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")

    def execution(self, chunk: int | None = None, unit: str = "") -> None:
        """Arguments of scripts that run a model: how fast, never what.

        Args:
            chunk: of scripts that can be interrupted, how many units are done between two saves.
            unit: what they count.
        """
        self.add_argument("--threads", type=int, default=None, help="CPU threads (default: torch's choice)")
        if chunk is not None:
            self.add_argument("--chunk", type=int, default=chunk, metavar="N",
                              help=f"save after so many {unit}; bounds memory, and what an interruption loses (default: {chunk})")  # fmt: skip
            self.add_argument("--gpus", type=int, default=1, metavar="N", help="of engine vllm: share the model out over so many (default: 1)")  # fmt: skip
        self.add_argument("--code", default="", help="version of the code; what another one saved is not continued")
        self.add_argument(
            "--device", default="auto", help="auto, cpu, or cuda:N; auto leases a free GPU where there is one"
        )

    def read(self, argv: list[str] | None = None) -> tuple[argparse.Namespace, Any]:
        """Parse into (plain arguments, `Options`)."""
        arguments = self.parse_args(argv)
        if self.options is None:
            return arguments, None
        try:
            given = json.loads(arguments.spec) if arguments.spec else {}
        except ValueError as error:
            self.error(f"--spec is no JSON: {error}")
        fields = {field.name: field for field in dataclasses.fields(self.options)}
        if unknown := sorted(set(given) - set(fields)):
            self.error(f"--spec: unknown keys {unknown}; allowed are {sorted(fields)}")
        for name, field in fields.items():
            text = getattr(arguments, name)
            if text is not None:
                given[name] = self._convert(name, field, text)
            elif name not in given and _default(field) is dataclasses.MISSING:
                self.error(f"--{name.replace('_', '-')} is required (or give it in --spec)")
            allowed = _allowed(field)
            if allowed and given.get(name, _default(field)) not in allowed:
                self.error(f"--{name.replace('_', '-')}: {given[name]!r} is none of {', '.join(map(str, allowed))}")
        return arguments, self.options(**given)

    def _convert(self, name: str, field: dataclasses.Field, text: str) -> Any:
        kind = _plain_type(field)
        if text == "null" and types.NoneType in _types(field):
            return None
        try:
            if kind in (str, Literal):
                return text
            if kind in (int, float):
                return kind(text)
            return json.loads(text)
        except ValueError:
            self.error(f"--{name.replace('_', '-')}: '{text}' is not {_metavar(field)}")


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _types(field: dataclasses.Field) -> tuple[Any, ...]:
    """The types that a field may have."""
    union = typing.get_origin(field.type) in (types.UnionType, typing.Union)
    return typing.get_args(field.type) if union else (field.type,)


def _plain_type(field: dataclasses.Field) -> Any:
    kind = next(part for part in _types(field) if part is not types.NoneType)
    return typing.get_origin(kind) or kind


def _allowed(field: dataclasses.Field) -> list[Any]:
    """The values of a field that has a choice of them, null where it may be null; nothing for other fields."""
    kinds = _types(field)
    values = [value for kind in kinds if typing.get_origin(kind) is Literal for value in typing.get_args(kind)]
    return [*values, None] if values and types.NoneType in kinds else values


def _metavar(field: dataclasses.Field) -> str:
    if allowed := _allowed(field):
        return "{" + ",".join("null" if value is None else str(value) for value in allowed) + "}"
    return {int: "INT", float: "FLOAT", str: "TEXT"}.get(_plain_type(field), "JSON")


def run(main: Callable[[], None]) -> None:
    """Run a script's main function; what a user can mend is one line on standard error and exit status 1.

    A job that was told to end, and can go on later, exits with status 75; another that was told to end tidies up first.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    start_logging()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
    except Interrupted as interruption:
        print(f"interrupted: {interruption}", file=sys.stderr)
        raise SystemExit(TRY_AGAIN) from None
    except KnowshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        gc.freeze()  # or Python looks for garbage in all that was made before it ends
