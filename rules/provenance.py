"""A digest of the code that makes a rule's result: of what its script's `main` really reaches.

From `main` on, names are followed through functions, classes, constants, decorators and default values, and into the local
modules that they are imported from. A class counts whole, and so do statements that do something when a module is
imported. So a new column of a report's table changes no digest of training, though both take from one module. Comments,
docstrings, formatting, unused imports and unused functions do not count, nor do installed packages. Modules that only
report, write and check are left out, so that a new progress bar retrains nothing. A local model folder gets a digest too.
"""

import hashlib
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

from definitions import WHOLE_LIBRARY, WHOLE_MODULE, Definition, ModuleFile

MODEL_FILES = ("*.safetensors", "*.json", "tokenizer.model", "*.txt", "*.jinja")
NEUTRAL = {
    "command_line",
    "knowshift",
    "knowshift.artifacts",
    "knowshift.devices",
    "knowshift.errors",
    "knowshift.events",
    "knowshift.progress",
    "knowshift.resume",
    "knowshift.tables",
}

WHOLE = "*"  # in place of a name: all of a module
EFFECTS = ""  # what happens when a module is imported
MAIN = "__main__"
Place = tuple[str, str]  # a module and a name of it


class Code:
    """The scripts of a folder and the library beside them, parsed once each.

    Args:
        scripts: holds SCRIPT.py and the library's package.
    """

    def __init__(self, scripts: Path) -> None:
        self.scripts = scripts
        self._files: dict[str, ModuleFile | None] = {}
        self._next: dict[Place, frozenset[Place]] = {}

    def digest(self, script: str) -> str:
        """The digest of a script, named without `.py`.

        Raises:
            FileNotFoundError: there is no such script.
        """
        if self._file(script) is None:
            raise FileNotFoundError(f"{self.scripts / script}.py does not exist")
        digest = hashlib.sha256()
        for module, name in sorted(self._reach((script, MAIN))):
            content = "".join(definition.content for definition in self._definitions(module, name))
            if content or self._file(module) is None:
                digest.update(f"{module}\0{name}\0{content}\0".encode())
        return digest.hexdigest()[:16]

    def _reach(self, start: Place) -> set[Place]:
        reached, waiting = set(), [start]
        while waiting:
            place = waiting.pop()
            if place not in reached and place[0] not in NEUTRAL:
                reached.add(place)
                waiting += self._following(place)
        return reached

    def _file(self, module: str) -> ModuleFile | None:
        """A local module, or None."""
        if module not in self._files:
            path = self.scripts.joinpath(*module.split("."))
            path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            self._files[module] = ModuleFile(path, module) if path.is_file() else None
        return self._files[module]

    @cached_property
    def _library(self) -> list[str]:
        """All modules of all packages."""
        files = (path.relative_to(self.scripts).with_suffix("") for path in self.scripts.glob("*/**/*.py"))
        return [".".join(file.parts).removesuffix(".__init__") for file in files]

    def _definitions(self, module: str, name: str) -> list[Definition]:
        """What stands at a place."""
        file = self._file(module)
        if file is None:
            return []
        if name == WHOLE:
            return [file.definitions[each] for each in sorted(file.definitions)]
        if name in (EFFECTS, MAIN):
            return [file.effects if name == EFFECTS else file.main]
        return [file.definitions[name]] if name in file.definitions else []

    def _following(self, place: Place) -> frozenset[Place]:
        if place not in self._next:
            self._next[place] = frozenset(self._find_following(*place))
        return self._next[place]

    def _find_following(self, module: str, name: str) -> Iterator[Place]:
        """The places that a place leads to at once."""
        file = self._file(module)
        if file is None:
            return
        if name == EFFECTS:
            yield from ((source, EFFECTS) for source in file.imported if self._file(source))
        else:
            yield module, EFFECTS
        yield from ((source, WHOLE) for source in file.stars if self._file(source))
        definitions = self._definitions(module, name)
        if name == WHOLE:
            for each in file.imports:
                yield from self._read(file, module, each)
        elif name in file.imports:
            yield from self._target(*file.imports[name])
        elif not definitions:
            yield module, WHOLE  # made in some other way
        for definition in definitions:
            _ = definition.content  # what is read is known once it is written
            for source, item in definition.imports:
                yield from self._target(source, item)
            for each in definition.names:
                yield from self._read(file, module, each)
            for each, attribute in definition.attributes:
                yield from self._read(file, module, each, attribute)
                if (each, attribute) == ("sys", "modules"):
                    yield from ((other, WHOLE) for other in self._library)

    def _read(self, file: ModuleFile, module: str, name: str, attribute: str | None = None) -> Iterator[Place]:
        """Where a name leads that is read in a module, or an attribute of what it is bound to."""
        if name in WHOLE_LIBRARY:
            yield from ((other, WHOLE) for other in self._library)
        if name in WHOLE_MODULE | WHOLE_LIBRARY:
            yield module, WHOLE
        if name in file.definitions:
            yield module, name
        if name in file.imports:
            yield from self._target(*file.imports[name], attribute)

    def _target(self, source: str, item: str | None, attribute: str | None = None) -> Iterator[Place]:
        """Where an import leads, or an attribute of what it binds."""
        if item == "*":
            yield source, WHOLE
            return
        inner = f"{source}.{item}" if item else source
        if self._file(inner) is None:
            yield source, item or attribute or WHOLE
            if self._file(source):
                yield source, EFFECTS
        elif attribute and self._file(f"{inner}.{attribute}"):
            yield f"{inner}.{attribute}", WHOLE
        else:
            yield inner, attribute or WHOLE


@cache
def code(scripts: Path) -> Code:
    """The code of a folder, as it was when first asked for."""
    return Code(scripts)


def code_digest(scripts: Path, script: str) -> str:
    """The digest of a script of a folder, see `Code.digest`."""
    return code(scripts).digest(script)


def directory_digest(path: Path, code: bool = False) -> str:
    """A digest of a model directory's content, quick enough to take whenever the Snakefile is read.

    Small files count whole; of larger ones the size, the first and the last mebibyte. With `code` its Python files count too.
    """
    digest = hashlib.sha256()
    edge = 1 << 20
    for file in sorted(file for pattern in (*MODEL_FILES, *(["*.py"] if code else [])) for file in path.glob(pattern)):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as source:
            digest.update(source.read(edge))
            if size > edge:
                source.seek(max(edge, size - edge))
                digest.update(source.read(edge))
    return digest.hexdigest()
