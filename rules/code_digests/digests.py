"""Digests of the code that makes a rule's result: of what its script's `main` reaches.

From `main` on, names are followed through functions, classes, constants, decorators and default values, and into the
local modules that they are imported from. A class counts as a whole, and so do statements that run when a module is
imported. A new column of a report's table therefore changes no digest of training, though both take from one module.

These do not count: comments, docstrings, help texts of settings, formatting, unused code, installed packages, and
where code lives. A definition counts by its content and by the definitions that it reads, never by the names of the
modules that hold them, so moving it, or renaming a module, changes no digest. Modules that only log, write, resume and
check are left out: a new progress bar retrains nothing.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from code_digests.definitions import WHOLE_LIBRARY, WHOLE_MODULE, Definition, Imported, ModuleFile, Read

# A room and modules that count for no result.
NEUTRAL = ("knowshift.runtime", "cli.command_line", "cli.admitting", "cli.expectations")

WHOLE = "*"  # instead of a name: the whole module
EFFECTS = ""  # instead of a name: the statements that run when the module is imported
MAIN = "__main__"
NOTHING = ""  # the digest of an address without content
Address = tuple[str, str]  # a module and a name that it defines


def is_neutral(module: str) -> bool:
    """Say whether a module counts for no result."""
    return module == "knowshift" or any(module == name or module.startswith(f"{name}.") for name in NEUTRAL)


class Code:
    """The parsed scripts of a folder and of the library beside them.

    Args:
        scripts: the folder that holds SCRIPT.py and the packages of the library.
    """

    def __init__(self, scripts: Path) -> None:
        self.scripts = scripts
        self._files: dict[str, ModuleFile | None] = {}
        self._nodes: dict[Address, _Node] = {}
        self._graphs: dict[Address, _Graph] = {}

    def digest(self, script: str) -> str:
        """Return the digest of a script (16 hexadecimal digits), named without `.py`.

        Raises:
            FileNotFoundError: there is no such script.
        """
        if self._file(script) is None:
            raise FileNotFoundError(f"{self.scripts / script}.py does not exist")
        main = self._graph((script, MAIN))
        seen, waiting, others = set(), list(main.beside), set()
        while waiting:
            address = waiting.pop()
            if address not in seen:
                seen.add(address)
                graph = self._graph(address)
                waiting += graph.beside
                others.add(graph.digest)
        return hashlib.sha256("\0".join([main.digest, *sorted(others - {NOTHING})]).encode()).hexdigest()[:16]

    def _graph(self, root: Address) -> "_Graph":
        """Digest all that an address reaches. Addresses stand in it as numbers, in the order that they are read."""
        if root not in self._graphs:
            numbers, order, beside = {root: 0}, [root], set()
            text = hashlib.sha256()
            for address in order:  # grows while it is read
                node = self._node(address)
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
        """Parse a local module; None if there is none of this name."""
        if module not in self._files:
            path = self.scripts.joinpath(*module.split("."))
            path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            self._files[module] = ModuleFile(path, module) if path.is_file() else None
        return self._files[module]

    @cached_property
    def _library(self) -> list[str]:
        """List all modules of all packages."""
        files = (path.relative_to(self.scripts).with_suffix("") for path in self.scripts.glob("*/**/*.py"))
        return [".".join(file.parts).removesuffix(".__init__") for file in files]

    def _node(self, address: Address) -> "_Node":
        if address not in self._nodes:
            self._nodes[address] = self._make_node(*address)
        return self._nodes[address]

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
        """Add the text of a definition, and the addresses that it reads, to a node."""
        parts, imports = definition.parts, {**file.imports, **definition.imports}
        text = []
        for part in parts:
            if not isinstance(part, Read):
                text.append(part)
                continue
            name, attribute = part
            node.reads += self._leads_to(module, name, attribute, imports)
            if name in WHOLE_LIBRARY or part == ("sys", "modules"):
                node.beside.update((other, WHOLE) for other in self._library if self._counts(other))
            known = name in imports and name not in definition.bound and self._is_module(*imports[name])
            text.append(f"[{'' if known else name}.{attribute or ''}]")
        node.content += "".join(text)
        for source, item in definition.imports.values():
            for each in (source, f"{source}.{item}"):
                if self._counts(each):
                    node.beside.add((each, EFFECTS))
        node.beside.update((source, WHOLE) for source in definition.stars if self._counts(source))

    def _counts(self, module: str) -> bool:
        """Say whether a module is local and not left out."""
        return not is_neutral(module) and self._file(module) is not None

    def _is_module(self, source: str, item: str | None) -> bool:
        """Say whether an import binds a local module."""
        return self._file(f"{source}.{item}" if item else source) is not None

    def _leads_to(
        self, module: str, name: str, attribute: str | None, imports: Mapping[str, Imported]
    ) -> Iterator[Address]:
        """Yield the addresses that a name, or an attribute of it, leads to in a module."""
        file = self._file(module)
        if name in WHOLE_MODULE | WHOLE_LIBRARY:
            yield module, WHOLE
        if file and name in file.definitions:
            yield module, name
        if name in imports:
            yield from self._target(*imports[name], attribute)

    def _target(self, source: str, item: str | None, attribute: str | None = None) -> Iterator[Address]:
        """Yield the address that an import leads to, or an attribute of what it binds."""
        inner = f"{source}.{item}" if item else source
        if self._file(inner) is None:
            address = (source, item or attribute or WHOLE)
        elif attribute and self._file(f"{inner}.{attribute}"):
            address = (f"{inner}.{attribute}", WHOLE)
        else:
            address = (inner, attribute or WHOLE)
        while (file := self._file(address[0])) and address[1] not in file.definitions and address[1] in file.imports:
            source, item = file.imports[address[1]]  # handed on from another module
            address = (f"{source}.{item}", WHOLE) if self._is_module(source, item) else (source, item or WHOLE)
        if not is_neutral(address[0]):
            yield address


class _Node:
    """What one address adds to a digest.

    Attributes:
        content: the code as text, without the names of local modules.
        reads: the addresses that the code reads, in that order.
        beside: addresses that count too but have no order: statements that run on import.
    """

    def __init__(self, content: str, reads: list[Address], beside: set[Address]) -> None:
        self.content, self.reads, self.beside = content, reads, beside


class _Graph(NamedTuple):
    """The digest of all that an address reaches, and the addresses that count beside it."""

    digest: str
    beside: set[Address]


@cache
def code(scripts: Path) -> Code:
    """Return the code of a folder as it was when first asked for."""
    return Code(scripts)


def code_digest(scripts: Path, script: str) -> str:
    """Return the digest of a script of a folder; see `Code.digest`."""
    return code(scripts).digest(script)
