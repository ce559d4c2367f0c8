"""A digest of the code that makes a rule's result: of what its script's `main` really reaches.

From `main` on, names are followed through functions, classes, constants, decorators and default values, and into the local
modules that they are imported from. A class counts whole, and so do statements that do something when a module is
imported. A new column of a report's table therefore changes no digest of training, though both take from one module.

These do not count: comments, docstrings, formatting, unused imports and functions, installed packages, and where code lives. A
definition counts by its content and by the definitions that it reads, never by the names of the modules that hold them, so
moving it, or renaming a module, changes no digest. Modules that only log, write, resume and check are left out, so that a new
progress bar retrains nothing. The digest of a local model folder is taken here too.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from code_digests.definitions import WHOLE_LIBRARY, WHOLE_MODULE, Definition, Imported, ModuleFile, Read

MODEL_FILES = ("*.safetensors", "*.json", "tokenizer.model", "*.txt", "*.jinja")
NEUTRAL = ("knowshift.runtime", "cli.command_line")  # a room and a module that count for no result

WHOLE = "*"  # in place of a name: all of a module
EFFECTS = ""  # what happens when a module is imported
MAIN = "__main__"
NOTHING = ""  # the digest of a place without content
Place = tuple[str, str]  # a module and a name of it


def is_neutral(module: str) -> bool:
    """Whether a module counts for no result."""
    return module == "knowshift" or any(module == name or module.startswith(f"{name}.") for name in NEUTRAL)


class Code:
    """The scripts of a folder and the library beside them, parsed once each.

    Args:
        scripts: holds SCRIPT.py and the library's package.
    """

    def __init__(self, scripts: Path) -> None:
        self.scripts = scripts
        self._files: dict[str, ModuleFile | None] = {}
        self._nodes: dict[Place, _Node] = {}
        self._graphs: dict[Place, _Graph] = {}

    def digest(self, script: str) -> str:
        """The digest of a script, named without `.py`.

        Raises:
            FileNotFoundError: there is no such script.
        """
        if self._file(script) is None:
            raise FileNotFoundError(f"{self.scripts / script}.py does not exist")
        main = self._graph((script, MAIN))
        seen, waiting, others = set(), list(main.beside), set()
        while waiting:
            place = waiting.pop()
            if place not in seen:
                seen.add(place)
                graph = self._graph(place)
                waiting += graph.beside
                others.add(graph.digest)
        return hashlib.sha256("\0".join([main.digest, *sorted(others - {NOTHING})]).encode()).hexdigest()[:16]

    def _graph(self, root: Place) -> "_Graph":
        """What a place reaches, as a digest in which places are numbered in the order that they are read in."""
        if root not in self._graphs:
            numbers, order, beside = {root: 0}, [root], set()
            text = hashlib.sha256()
            for place in order:  # grows while it is read
                node = self._node(place)
                for each in node.reads:
                    if each not in numbers:
                        numbers[each] = len(order)
                        order.append(each)
                beside |= node.beside
                text.update(f"{node.content}\0{[numbers[each] for each in node.reads]}\0".encode())
            empty = order == [root] and not self._node(root).content
            self._graphs[root] = _Graph(NOTHING if empty else text.hexdigest(), beside)
        return self._graphs[root]

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

    def _node(self, place: Place) -> "_Node":
        if place not in self._nodes:
            self._nodes[place] = self._make_node(*place)
        return self._nodes[place]

    def _make_node(self, module: str, name: str) -> "_Node":
        file = self._file(module)
        if file is None:  # an installed package, whose address is all that counts of it
            return _Node(f"{module}.{name}", [], set())
        node = _Node("", [], set())
        if name == EFFECTS:
            node.beside.update((source, EFFECTS) for source in file.imported if self._counts(source))
        else:
            node.beside.add((module, EFFECTS))
        node.beside.update((source, WHOLE) for source in file.stars if self._counts(source))
        if name in (EFFECTS, MAIN):
            self._read_definition(node, module, file, file.effects if name == EFFECTS else file.main)
        elif name in file.definitions:
            self._read_definition(node, module, file, file.definitions[name])
        elif name == WHOLE:
            names = sorted({*file.definitions, *file.imports})
            node.content = ",".join(names)
            for each in names:
                node.reads += self._leads_to(module, each, None, file.imports)
        elif name in file.imports:
            node.reads += self._target(*file.imports[name])
        else:
            node.reads.append((module, WHOLE))  # made in some other way
        return node

    def _read_definition(self, node: "_Node", module: str, file: ModuleFile, definition: Definition) -> None:
        """Add a definition's text and what it reads to a node."""
        parts, imports = definition.parts, {**file.imports, **definition.imports}
        text = []
        for part in parts:
            if not isinstance(part, Read):
                text.append(part)
                continue
            name, attribute = part
            node.reads += self._leads_to(module, name, attribute, imports)
            if name in WHOLE_LIBRARY or part == ("sys", "modules"):
                node.beside.update((other, WHOLE) for other in self._library)
            known = name in imports and name not in definition.bound and self._is_module(*imports[name])
            text.append(f"[{'' if known else name}.{attribute or ''}]")
        node.content += "".join(text)
        for source, item in definition.imports.values():
            for each in (source, f"{source}.{item}"):
                if self._counts(each):
                    node.beside.add((each, EFFECTS))
        node.beside.update((source, WHOLE) for source in definition.stars if self._counts(source))

    def _counts(self, module: str) -> bool:
        """Whether a module is local and not left out."""
        return not is_neutral(module) and self._file(module) is not None

    def _is_module(self, source: str, item: str | None) -> bool:
        """Whether an import binds a local module."""
        return self._file(f"{source}.{item}" if item else source) is not None

    def _leads_to(
        self, module: str, name: str, attribute: str | None, imports: Mapping[str, Imported]
    ) -> Iterator[Place]:
        """The places that a name leads to which is read in a module, or an attribute of what it is bound to."""
        file = self._file(module)
        if name in WHOLE_MODULE | WHOLE_LIBRARY:
            yield module, WHOLE
        if name in file.definitions:
            yield module, name
        if name in imports:
            yield from self._target(*imports[name], attribute)

    def _target(self, source: str, item: str | None, attribute: str | None = None) -> Iterator[Place]:
        """Where an import leads, or an attribute of what it binds."""
        inner = f"{source}.{item}" if item else source
        if self._file(inner) is None:
            place = (source, item or attribute or WHOLE)
        elif attribute and self._file(f"{inner}.{attribute}"):
            place = (f"{inner}.{attribute}", WHOLE)
        else:
            place = (inner, attribute or WHOLE)
        while (file := self._file(place[0])) and place[1] not in file.definitions and place[1] in file.imports:
            source, item = file.imports[place[1]]  # handed on from another module
            place = (f"{source}.{item}", WHOLE) if self._is_module(source, item) else (source, item or WHOLE)
        if not is_neutral(place[0]):
            yield place


class _Node:
    """A place's own part of a digest.

    Attributes:
        content: its text, without the names of local modules.
        reads: the places that it reads, in the order that it does so.
        beside: places that count with it, but stand in no order: what happens on import.
    """

    def __init__(self, content: str, reads: list[Place], beside: set[Place]) -> None:
        self.content, self.reads, self.beside = content, reads, beside


class _Graph(NamedTuple):
    """What a place reaches: a digest of it, and the places that count with it."""

    digest: str
    beside: set[Place]


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
