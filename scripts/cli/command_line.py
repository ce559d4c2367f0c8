"""The command line that all scripts share.

Settings that change a result are fields of the script's `Options`, which is composed of sections of the configuration
(`knowshift.configuration`), so that each is declared once. A person gives them as flags, a rule gives all of them at
once as `--spec JSON`. What does not change a result (files, threads, devices) is a plain argument.

A script imports what reads its command line, and no more; `main` imports the rest once the command line is read, within
`quick_imports`. So `--help` and mistakes are answered at once.
"""

import argparse
import gc
import json
import os
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from knowshift.runtime.errors import Interrupted, KnowshiftError
from knowshift.runtime.progress import start_logging
from knowshift.runtime.scarcity import lack_of

Options = TypeVar("Options", bound=BaseModel)

TRY_AGAIN = 75  # exit status EX_TEMPFAIL of sysexits.h; SLURM's RequeueExit can name it


class CommandLine(argparse.ArgumentParser, Generic[Options]):
    """An argument parser described by the script's docstring, with the fields of a pydantic model as options.

    Type, default, allowed values and help of an option are those of its field.

    Args:
        docstring: the script's.
        options: the model; None for a script that nothing but its files decides.
        flags: flags of those fields that cannot have the flag of their own name, because another argument has it.
    """

    def __init__(
        self, docstring: str | None, options: type[Options] | None = None, flags: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        self._options = options
        self._flags: dict[str, str] = {}
        if options is None:
            return
        group = self.add_argument_group("options that change the result")
        group.add_argument("--spec", metavar="JSON", help="All of these at once, as one JSON object.")
        for name, field in options.model_fields.items():
            self._flags[name] = (flags or {}).get(name, "--" + name.replace("_", "-"))
            note = "" if field.is_required() else f" (default: {_shown_default(field)})"
            text = f"{field.description}{note}".replace("%", "%%")
            group.add_argument(
                self._flags[name], dest=_destination(name), metavar=_metavar(field), default=None, help=text
            )

    def path(
        self, flag: str, help: str, required: bool = True, many: bool = False, default: Path | None = None
    ) -> None:
        """Add an argument that is a file or directory, or a list of them."""
        wanted = required and default is None
        self.add_argument(flag, type=Path, required=wanted, default=default, help=help, nargs="*" if many else None)

    def versions(self) -> None:
        """Add the arguments of scripts that compare a model before and after training."""
        self.path("--base", "Model directory before training.")
        self.path("--tuned", "Model directory after training.", required=False)
        self.path("--delta", "Delta directory, instead of --tuned.", required=False)
        self.add_argument("--threads", type=int, default=1, help="Number of CPU threads (default: 1).")

    def execution(self, chunk: int | None = None, unit: str = "") -> None:
        """Add the arguments of scripts that run a model: how fast it runs, and never what comes out.

        Args:
            chunk: of scripts that can be interrupted, how many units are done between two saves.
            unit: what is counted.
        """
        self.add_argument("--threads", type=int, default=None, help="Number of CPU threads (default: torch's choice).")
        if chunk is not None:
            self.add_argument(
                "--chunk",
                type=int,
                default=chunk,
                metavar="N",
                help=f"Save after every N {unit}; bounds memory, and what an interruption loses (default: {chunk}).",
            )
            self.add_argument(
                "--gpus",
                type=int,
                default=1,
                metavar="N",
                help="Number of GPUs that the engine vllm shares the model out over (default: 1).",
            )
        self.add_argument(
            "--code", default="", help="Version of the code; work that another version saved is not continued."
        )
        self.add_argument(
            "--device", default="auto", help="auto, cpu or cuda:N; auto leases a free GPU if there is one."
        )

    def read(self, argv: list[str] | None = None) -> tuple[argparse.Namespace, Options]:
        """Parse a command line, by default this process's.

        Returns:
            The plain arguments, and the options (None where the script has none).
        """
        arguments = self.parse_args(argv)
        if self._options is None:
            return arguments, typing.cast(Options, None)
        try:
            given = json.loads(arguments.spec) if arguments.spec else {}
        except ValueError as error:
            self.error(f"--spec is no JSON: {error}")
        fields = self._options.model_fields
        if unknown := sorted(set(given) - set(fields)):
            self.error(f"--spec: unknown keys {unknown}; allowed are {sorted(fields)}")
        for name, field in fields.items():
            text = vars(arguments).pop(_destination(name))
            if text is not None:
                given[name] = self._value(name, field, text)
        try:
            return arguments, self._options.model_validate(given)
        except ValidationError as error:
            self.error("; ".join(dict.fromkeys(self._explain(problem) for problem in error.errors())))

    def _value(self, name: str, field: FieldInfo, text: str) -> Any:
        """The value that the text of a flag stands for. pydantic checks it, and turns text into numbers."""
        if text == "null" and types.NoneType in _types(field):
            return None
        if _plain_type(field) in (str, int, float, Literal):
            return text
        try:
            return json.loads(text)
        except ValueError:
            self.error(f"{self._flags[name]}: '{text}' is not {_metavar(field)}")

    def _explain(self, problem: Any) -> str:
        """Say in one clause what is wrong with an option, from one error of pydantic's."""
        if not problem["loc"]:
            return problem["msg"].removeprefix("Value error, ")
        name, *inside = problem["loc"]
        flag, field = self._flags[name], typing.cast(type[BaseModel], self._options).model_fields[name]
        if problem["type"] == "missing" and not inside:
            return f"{flag} is required (or give it in --spec)"
        if allowed := _allowed(field):
            return f"{flag}: {problem['input']!r} is none of {', '.join(allowed)}"
        where = "".join(f"{part}: " for part in inside)
        return f"{flag}: {where}{problem['msg'][0].lower()}{problem['msg'][1:]}, not {problem['input']!r}"


def _destination(name: str) -> str:
    """The attribute that argparse keeps an option in: its own, since an option and a file may have one name."""
    return f"option {name}"


def _shown_default(field: FieldInfo) -> str:
    """A default as one would write it on the command line."""
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        default = default.model_dump()
    return default if isinstance(default, str) else json.dumps(default)


def _types(field: FieldInfo) -> tuple[Any, ...]:
    """The types that a field may have."""
    union = typing.get_origin(field.annotation) in (types.UnionType, typing.Union)
    return typing.get_args(field.annotation) if union else (field.annotation,)


def _plain_type(field: FieldInfo) -> Any:
    """The type of a field apart from null, without its parameters and limits: `list` for `list[int]`."""
    kind = next(part for part in _types(field) if part is not types.NoneType)
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return typing.get_origin(kind) or kind


def _allowed(field: FieldInfo) -> list[str]:
    """The values of a field that has a choice of them, null where it may be null; nothing for other fields."""
    kinds = _types(field)
    values = [str(value) for kind in kinds if typing.get_origin(kind) is Literal for value in typing.get_args(kind)]
    return [*values, "null"] if values and types.NoneType in kinds else values


def _metavar(field: FieldInfo) -> str:
    """What stands for an option's value in the help."""
    if allowed := _allowed(field):
        return "{" + ",".join(allowed) + "}"
    return {int: "INT", float: "FLOAT", str: "TEXT"}.get(_plain_type(field), "JSON")


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import what takes long to import, such as torch and transformers, without delays that serve nothing.

    Python looks for garbage among the objects that are made meanwhile, though all of them stay; that takes a fifth of
    the time. And pyarrow would import pandas later, see `keep_pandas_unloaded`.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000)
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*thresholds)
    if "pyarrow" in sys.modules:
        from knowshift.runtime.parquet import keep_pandas_unloaded

        keep_pandas_unloaded()


def search_scripts_last() -> None:
    """Let Python look for modules among the scripts last.

    Python puts the folder of the script that it runs before all others, so that a script named like a package, such as
    `tabulate.py`, would be imported in its place.
    """
    scripts = Path(sys.argv[0]).resolve().parent
    if sys.path and Path(sys.path[0]).resolve() == scripts:
        sys.path.append(sys.path.pop(0))


def _end_with(line: str, status: int = 1) -> NoReturn:
    """Print a line to standard error and end the process; where the log is on a full disk, print it to standard output.

    What a log could not take is dropped, or Python would fail at it once more at its end, with another status.
    """
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            print(line, flush=True)
        except OSError:
            os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    raise SystemExit(status) from None


def run(main: Callable[[], None]) -> None:
    """Run a script's main function.

    An error that the user can mend, and a lack of disk space or memory, is one line on standard error and exit status
    1. A job that was told to end, and can go on later, exits with status 75; any other that was told to end tidies up
    first.
    """
    search_scripts_last()
    start_logging()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
    except Interrupted as interruption:
        _end_with(f"interrupted: {interruption}", TRY_AGAIN)
    except KnowshiftError as error:
        _end_with(f"error: {error}")
    except Exception as error:
        if not (lacking := lack_of(error)):
            raise
        _end_with(f"error: {lacking}")
    finally:
        gc.freeze()  # or Python would look for garbage among all objects once more before it ends
