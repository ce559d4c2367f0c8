"""The definitions of a Python file by name, and the names that each one reads. Files are parsed, never imported or run.

Where the parser cannot tell what a piece of code reaches, it assumes more, never less.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

# Decorators from these modules change what they decorate and nothing else; others may note it down somewhere.
PLAIN_DECORATORS = {"abc", "contextlib", "dataclasses", "functools", "torch", "typing"}
BUILTIN_DECORATORS = {"classmethod", "property", "staticmethod"}
# Who reads these can reach any name of its module; who reads the second ones, any module.
WHOLE_MODULE = {"globals", "locals", "vars"}
WHOLE_LIBRARY = {"__import__", "eval", "exec", "importlib", "pkgutil", "runpy"}

ANNOTATIONS = {("arg", "annotation"), ("FunctionDef", "returns"), ("AsyncFunctionDef", "returns")}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Imported = tuple[str, str | None]  # a module, and a name of it (None: the module itself, * all of it)


class Read(NamedTuple):
    """A name that code reads, with the attribute in `name.attribute`."""

    name: str
    attribute: str | None = None


class Definition:
    """Statements that belong together, such as all that bind one name.

    Attributes:
        parts: the code without comments, docstrings and formatting, the same for every version of Python: text, and in
            between the names that it reads.
        imports: what import statements inside bind, by name.
        stars: modules that import statements inside take all names from.
        bound: names that are bound inside, so that they need not mean what they mean at the top of the file.
    """

    def __init__(self, nodes: Iterable[ast.AST], module: str) -> None:
        self._nodes, self._module = list(nodes), module
        self.imports: dict[str, Imported] = {}
        self.stars: set[str] = set()
        self.bound: set[str] = set()

    @cached_property
    def parts(self) -> list[str | Read]:
        """The text of the statements, cut at the names that it reads."""
        for node in self._nodes:
            self._find_bound(node)
        parts: list[str | Read] = []
        for node in self._nodes:
            self._write(node, parts, True)
        return parts

    def _find_bound(self, node: ast.AST) -> None:
        for part in ast.walk(node):
            if isinstance(part, ast.Import | ast.ImportFrom):
                for alias, (source, name) in zip(part.names, imported(part, self._module), strict=True):
                    if name == "*":
                        self.stars.add(source)
                    elif name is None and not alias.asname:
                        self.imports[source.partition(".")[0]] = (source.partition(".")[0], None)
                    else:
                        self.imports[alias.asname or alias.name] = (source, name)
            elif isinstance(part, ast.arg):
                self.bound.add(part.arg)
            elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
                self.bound.add(part.id)

    def _write(self, node: object, parts: list[str | Read], reads: bool) -> None:
        if isinstance(node, list):
            for item in node:
                # What is imported counts where it is read, and where it comes from does not count.
                if not _is_text(item) and not isinstance(item, ast.Import | ast.ImportFrom):
                    self._write(item, parts, reads)
                    parts.append(",")
            return
        if not isinstance(node, ast.AST):
            parts.append(ascii(node))  # repr's escapes depend on the version of Unicode
            return
        kind = type(node).__name__
        if reads and isinstance(node, ast.Name):
            parts.append(Read(node.id))
            return
        if reads and isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            parts.append(Read(node.value.id, node.attr))
            return
        parts.append(kind)
        parts.append("(")
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Field" and field == "keywords":
                value = [each for each in node.keywords if each.arg != "description"]  # a setting's help text
            if value is None or value == [] or field in ("ctx", "kind", "type_comment"):
                continue
            parts.append(field)
            parts.append("=")
            # Annotations are part of a function's text, but nothing that they name is run.
            self._write(value, parts, reads and (kind, field) not in ANNOTATIONS)
        parts.append(")")


class ModuleFile:
    """The definitions of one file.

    Attributes:
        definitions: name to the statements that bind it at the top level of the file.
        imports: name to the module, and the name in it, that a top-level import binds it to.
        effects: statements that do more than bind a name when the module is imported.
        main: the statements below `if __name__ == "__main__"`.
        imported: modules that importing this one imports.
        stars: modules that all names are imported from.
    """

    def __init__(self, path: Path, module: str) -> None:
        self.imports: dict[str, Imported] = {}
        self.imported: set[str] = set()
        self.stars: set[str] = set()
        bound: dict[str, list[ast.stmt]] = {}
        effects: list[ast.stmt] = []
        main: list[ast.stmt] = []
        for node in ast.parse(path.read_bytes(), str(path)).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node, module)
            elif isinstance(node, ast.If) and _is_guard(node, "__name__"):
                main += node.body
            elif _is_guard(node, "TYPE_CHECKING"):
                continue  # never run
            elif not _is_text(node):
                for name in _bound(node):
                    bound.setdefault(name, []).append(node)
                if self._has_effect(node):
                    effects.append(node)
        self.definitions = {name: Definition(nodes, module) for name, nodes in bound.items()}
        self.effects, self.main = Definition(effects, module), Definition(main, module)
        for node in effects:  # compound statements may hold imports
            for part in ast.walk(node):
                if isinstance(part, ast.Import | ast.ImportFrom):
                    self.imported |= {name for name, _ in imported(part, module)}

    def _import(self, node: ast.Import | ast.ImportFrom, module: str) -> None:
        for alias, (source, name) in zip(node.names, imported(node, module), strict=True):
            self.imported.add(source)
            if name == "*":
                self.stars.add(source)
            elif name is not None:
                self.imported.add(f"{source}.{name}")  # if that is a module
                self.imports[alias.asname or name] = (source, name)
            elif alias.asname:
                self.imports[alias.asname] = (source, None)
            else:
                self.imports[source.partition(".")[0]] = (source.partition(".")[0], None)

    def _has_effect(self, node: ast.stmt) -> bool:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            return getattr(node, "name", "") == "__getattr__" or not all(map(self._is_plain, node.decorator_list))
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return not all(isinstance(part, ast.Name | ast.Tuple | ast.List) for part in targets)
        return not isinstance(node, ast.Pass)

    def _is_plain(self, decorator: ast.expr) -> bool:
        while isinstance(decorator, ast.Call | ast.Attribute):
            decorator = decorator.func if isinstance(decorator, ast.Call) else decorator.value
        name = getattr(decorator, "id", "")
        source, _ = self.imports.get(name, ("", None))
        return source.partition(".")[0] in PLAIN_DECORATORS or (not source and name in BUILTIN_DECORATORS)


def imported(node: ast.Import | ast.ImportFrom, module: str) -> Iterator[Imported]:
    """Yield what an import statement in `module` names."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, None) for alias in node.names)
        return
    source = node.module or ""
    if node.level:
        source = ".".join([*module.split(".")[: -node.level], *([source] if source else [])])
    yield from ((source, alias.name) for alias in node.names)


def _is_text(node: object) -> bool:
    """Say whether a statement is a string alone: a docstring, at the top of a body or below an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_guard(node: ast.stmt, name: str) -> bool:
    """Say whether a statement is `if NAME:` or `if NAME == …:`, without an else."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    test = node.test.left if isinstance(node.test, ast.Compare) else node.test
    return name in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _bound(node: ast.AST) -> set[str]:
    """Return the names that a statement binds at its own level."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Store | ast.Del) else set()
    if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return {part.target.id for part in ast.walk(node) if isinstance(part, ast.NamedExpr)}
    return {name for child in ast.iter_child_nodes(node) for name in _bound(child)}
