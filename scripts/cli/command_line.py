"""The command line that all scripts share.

Settings that change a result are fields of the script's `Options`, which is composed of sections of the configuration
(`knowshift.configuration`), so that each is declared once. A person gives them as flags, a rule gives all of them at
once as `--spec JSON`. What does not change a result is a plain argument: a field of a section of `cli.execution`
(threads, devices), or a file or folder. All of them are checked here, when the command line is read.

A script imports what reads its command line, and no more; `main` imports the rest once the command line is read, within
`quick_imports`. So `--help` and mistakes are answered at once.
"""

import argparse
import gc
import json
import re
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cli.execution import Cores, Saving, TrainingExecution
from cli.paths import Kind, Place, check_paths, path
from knowshift.runtime.errors import LONGEST, Interrupted, KnowshiftError, presentable, shown
from knowshift.runtime.json_files import parse_json
from knowshift.runtime.memory import keep_freed_memory
from knowshift.runtime.progress import start_logging
from knowshift.runtime.scarcity import end_with, lack_of

Options = TypeVar("Options", bound=BaseModel)

MOST_PROBLEMS = 5  # with options, that one message names
TRY_AGAIN = 75  # exit status EX_TEMPFAIL of sysexits.h; SLURM's RequeueExit can name it


@dataclass(frozen=True)
class _Fields:
    """The fields of a pydantic model as arguments: their flags by name, and what some have instead of their default."""

    model: type[BaseModel]
    flags: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)


class CommandLine(argparse.ArgumentParser, Generic[Options]):
    """An argument parser described by the script's docstring, with the fields of pydantic models as arguments.

    Type, default, allowed values and help of an argument are those of its field, and pydantic checks what is given.
    Files and folders are checked too, so that a mistake is answered before anything is loaded or written.

    Args:
        docstring: the script's.
        options: the model of what changes the result; None for a script that nothing but its files decides.
        flags: flags of those fields that cannot have the flag of their own name, because another argument has it.
    """

    def __init__(
        self, docstring: str | None, options: type[Options] | None = None, flags: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        self._options: _Fields | None = None
        self._plain: list[_Fields] = []
        self._places: dict[str, Place] = {}
        self._alternatives: list[tuple[str, ...]] = []
        if options is not None:
            group = self.add_argument_group("options that change the result")
            group.add_argument("--spec", metavar="JSON", help="All of these at once, as one JSON object.")
            self._options = _Fields(options, {name: _flag(name) for name in options.model_fields} | {**(flags or {})})
            self._add_fields(group, self._options)

    def plain(self, section: type[BaseModel], **defaults: Any) -> None:
        """Add arguments that change no result: the fields of a section.

        Args:
            section: declares them.
            defaults: defaults that this script has, by the names of fields, instead of the section's.
        """
        self._plain.append(_Fields(section, {name: _flag(name) for name in section.model_fields}, defaults))
        self._add_fields(self, self._plain[-1])

    def path(
        self,
        flag: str,
        help: str,
        required: bool = True,
        many: bool = False,
        default: Path | None = None,
        kind: Kind = "file or folder",
        bare: bool = False,
    ) -> None:
        """Add an argument that is a file or a folder, or a list of them. `read` checks it.

        Args:
            flag: the argument.
            help: what it is.
            required: whether it has to be given, if it has no default.
            many: whether there may be several, or none if it is not required.
            default: the path that counts where none is given.
            kind: whether it is a file or a folder, and is read or written.
            bare: whether the flag may stand alone, for no path.
        """
        wanted = required and default is None
        number = ("+" if required else "*") if many else "?" if bare else None
        self.add_argument(flag, type=path, required=wanted, default=default, help=help, nargs=number)
        self._places[_attribute(flag)] = Place(flag, kind)

    def file(self, flag: str, help: str, required: bool = True, many: bool = False, **more: Any) -> None:
        """Add an argument that is a file to read, or a list of them; see `path`."""
        self.path(flag, help, required, many, kind="file", **more)

    def folder(self, flag: str, help: str, required: bool = True, many: bool = False, bare: bool = False) -> None:
        """Add an argument that is a folder to read, or a list of them; see `path`."""
        self.path(flag, help, required, many, kind="folder", bare=bare)

    def files_of_tuned(self) -> None:
        """Add the folder that a model which was fine-tuned elsewhere has beside its delta."""
        self.folder(
            "--files",
            "Folder with configuration and tokenizer of a model that was fine-tuned elsewhere (default: the base's).",
            required=False,
            bare=True,
        )

    def new_file(self, flag: str, help: str, required: bool = True) -> None:
        """Add an argument that is a file to write."""
        self.path(flag, help, required, kind="new file")

    def new_folder(self, flag: str, help: str) -> None:
        """Add an argument that is a folder to write, or to write files into."""
        self.path(flag, help, kind="new folder")

    def words(self, flag: str, pattern: str, help: str) -> None:
        """Add an argument that is a list of names, each of which fits a regular expression as a whole."""

        def word(text: str) -> str:
            if not re.fullmatch(pattern, text):
                raise argparse.ArgumentTypeError(f"{shown(text)} is no name (it does not fit {pattern})")
            return text

        self.add_argument(flag, nargs="+", required=True, type=word, metavar="NAME", help=help)

    def exactly_one(self, *flags: str) -> None:
        """Demand that one of several arguments is given, and no other of them."""
        self._alternatives.append(flags)

    def versions(self) -> None:
        """Add the arguments of scripts that compare a model before and after training."""
        self.folder("--base", "Model directory before training.")
        self.folder("--tuned", "Model directory after training.", required=False)
        self.folder("--delta", "Delta directory, instead of --tuned.", required=False)
        self.exactly_one("--tuned", "--delta")
        self.threads()

    def others(self) -> None:
        """Add the fine-tuned models of other seeds, for scripts that undo a part of an update."""
        self.folder(
            "--others",
            "Deltas or model directories of the same training with other seeds, for strategies that compare with them.",
            required=False,
            many=True,
        )

    def threads(self) -> None:
        """Add the number of CPU threads, for scripts that load no model."""
        self.plain(Cores)

    def execution(self, chunk: int) -> None:
        """Add the arguments of scripts that run a model in chunks: how fast it runs, and never what comes out.

        Args:
            chunk: how many questions or completions there are between two saves, unless another number is given.
        """
        self.plain(Saving, chunk=chunk)

    def training(self, save_every: float) -> None:
        """Add the arguments of the script that trains: how fast it runs, and never what comes out.

        Args:
            save_every: seconds between two saves, unless another number is given.
        """
        self.plain(TrainingExecution, save_every=save_every)

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong with the command line, and end with exit status 2."""
        self.exit(2, f"error: {presentable(message)}; {self.prog} --help lists all arguments\n")

    def read(self, argv: list[str] | None = None) -> tuple[argparse.Namespace, Options]:
        """Parse a command line, by default this process's.

        Returns:
            The plain arguments, and the options (None where the script has none).

        Raises:
            KnowshiftError: a file or folder that is read is not there, or one that is written cannot be.
        """
        arguments = self.parse_args(argv)
        for flags in self._alternatives:
            if sum(getattr(arguments, _attribute(flag)) is not None for flag in flags) != 1:
                self.error(f"give either {' or '.join(flags)}")
        options = None
        if self._options:
            options = self._validated(arguments, self._options, self._spec(arguments.spec, self._options.model))
        for fields in self._plain:
            section = self._validated(arguments, fields, {**fields.defaults})
            vars(arguments).update({name: getattr(section, name) for name in fields.flags})
        named = {place: getattr(arguments, attribute) for attribute, place in self._places.items()}
        check_paths(
            {place: [*paths] if isinstance(paths, list) else [paths] for place, paths in named.items() if paths}
        )
        return arguments, typing.cast(Options, options)

    def read_json(self, flag: str, text: str) -> Any:
        """Read the JSON that an argument holds; what is no JSON ends the process with exit status 2."""
        try:
            return parse_json(text, flag)
        except KnowshiftError as error:
            self.error(str(error))

    def _add_fields(self, group: Any, fields: _Fields) -> None:
        """Add an argument for each field. Its text is kept as it is until `read` has pydantic check it."""
        for name, flag in fields.flags.items():
            info = fields.model.model_fields[name]
            default = fields.defaults.get(name, info.get_default(call_default_factory=True))
            note = "" if default is PydanticUndefined else f" (default: {_as_given(default)})"
            text = f"{info.description}{note}".replace("%", "%%")
            group.add_argument(flag, dest=_destination(name), metavar=_metavar(info), default=None, help=text)

    def _spec(self, text: str | None, model: type[BaseModel]) -> dict[str, Any]:
        """Read the options that `--spec` gives."""
        if text is None:
            return {}
        given, allowed = self.read_json("--spec", text), sorted(model.model_fields)
        if not isinstance(given, dict):
            self.error(f"--spec: {shown(given)} is no JSON object; its keys may be {', '.join(allowed)}")
        if unknown := sorted(set(given) - set(allowed)):
            self.error(f"--spec: unknown keys {shown(unknown)}; allowed are {allowed}")
        return given

    def _validated(self, arguments: argparse.Namespace, fields: _Fields, given: dict[str, Any]) -> BaseModel:
        """Put what flags give over `given`, and check all of it."""
        for name, flag in fields.flags.items():
            text = vars(arguments).pop(_destination(name))
            if text is not None:
                given[name] = self._value(flag, fields.model.model_fields[name], text)
        try:
            return fields.model.model_validate(given)
        except ValidationError as error:
            problems = list(dict.fromkeys(_explain(problem, fields) for problem in error.errors()[:MOST_PROBLEMS]))
            self.error("; ".join(problems))

    def _value(self, flag: str, info: FieldInfo, text: str) -> Any:
        """The value that the text of a flag stands for. pydantic checks it, and turns text into numbers."""
        if text == "null" and types.NoneType in _types(info):
            return None
        if _plain_type(info) in (str, int, float, Literal):
            return text
        if not text.strip():
            self.error(f"{flag}: an empty text is not {_metavar(info)}")
        return self.read_json(flag, text)


def _explain(problem: Any, fields: _Fields) -> str:
    """Say in one clause what is wrong with an argument, from one error of pydantic's."""
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name, *inside = problem["loc"]
    flag, info = fields.flags[name], fields.model.model_fields[name]
    if problem["type"] == "missing" and not inside:
        return f"{flag} is required (or give it in --spec)"
    if (allowed := _allowed(info)) and not inside:
        return f"{flag}: {shown(problem['input'])} is none of {', '.join(allowed)}"
    where = "".join(f"{str(part)[:LONGEST]}: " for part in inside)
    return f"{flag}: {where}{message[0].lower()}{message[1:]}, not {shown(problem['input'])}"


def _flag(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def _attribute(flag: str) -> str:
    """The attribute that argparse keeps the value of a flag in."""
    return flag.removeprefix("--").replace("-", "_")


def _destination(name: str) -> str:
    """The attribute that argparse keeps an option in: its own, since an option and a file may have one name."""
    return f"option {name}"


def _as_given(default: Any) -> str:
    """A default as one would write it on the command line."""
    if isinstance(default, BaseModel):
        default = default.model_dump()
    return default if isinstance(default, str) else json.dumps(default)


def _types(info: FieldInfo) -> tuple[Any, ...]:
    """The types that a field may have."""
    union = typing.get_origin(info.annotation) in (types.UnionType, typing.Union)
    return typing.get_args(info.annotation) if union else (info.annotation,)


def _plain_type(info: FieldInfo) -> Any:
    """The type of a field apart from null, without its parameters and limits: `list` for `list[int]`."""
    kind = next(part for part in _types(info) if part is not types.NoneType)
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return typing.get_origin(kind) or kind


def _allowed(info: FieldInfo) -> list[str]:
    """The values of a field that has a choice of them, null where it may be null; nothing for other fields."""
    kinds = _types(info)
    values = [str(value) for kind in kinds if typing.get_origin(kind) is Literal for value in typing.get_args(kind)]
    return [*values, "null"] if values and types.NoneType in kinds else values


def _metavar(info: FieldInfo) -> str:
    """What stands for an option's value in the help."""
    if allowed := _allowed(info):
        return "{" + ",".join(allowed) + "}"
    return {int: "INT", float: "FLOAT", str: "TEXT"}.get(_plain_type(info), "JSON")


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import what takes long to import, such as torch and transformers, without delays that serve nothing.

    Python looks for garbage among the objects that are made meanwhile, though all of them stay; that takes a fifth of
    the time. transformers imports scipy for losses of object detection, if it finds it. And pyarrow would import pandas
    later, see `keep_pandas_unloaded`.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000)
    hidden = "scipy" not in sys.modules
    if hidden:
        sys.modules["scipy"] = None  # pyright: ignore[reportArgumentType] (how Python marks a package as not there)
    try:
        yield
    finally:
        if hidden:
            del sys.modules["scipy"]
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


def run(main: Callable[[], None]) -> None:
    """Run a script's main function.

    An error that the user can mend, and a lack of disk space or memory, is one line on standard error and exit status
    1. A job that was told to end, and can go on later, exits with status 75; any other that was told to end tidies up
    first.
    """
    search_scripts_last()
    keep_freed_memory()
    start_logging()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
    except Interrupted as interruption:
        end_with(f"interrupted: {interruption}", TRY_AGAIN)
    except KnowshiftError as error:
        end_with(f"error: {error}")
    except Exception as error:
        if lacking := lack_of(error):
            end_with(f"error: {presentable(lacking)}")
        if not isinstance(error, OSError):  # a file that another one needs is missing, or a folder is closed
            raise
        where = f"{error.filename}: " if error.filename else ""
        end_with(f"error: {presentable(f'{where}{error.strerror or error or type(error).__name__}')}")
    finally:
        gc.freeze()  # or Python would look for garbage among all objects once more before it ends
