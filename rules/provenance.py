"""A digest of the code that makes a rule's result: its script and every local module that the script reaches.

Code is compared as parsed, without comments, docstrings and formatting. Modules that only report, write and check are
left out, so that a new progress bar retrains nothing. A local model folder gets a digest too.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

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
}


@cache
def code_digest(scripts: Path, script: str) -> str:
    """The digest of a script.

    Args:
        scripts: the folder of scripts and of the library.
        script: its name without `.py`.
    """
    digest = hashlib.sha256()
    for module in sorted(_reach(scripts, script)):
        digest.update(f"{module}\0{_parsed(_file(scripts, module))[0]}\0".encode())
    return digest.hexdigest()[:16]


def _reach(scripts: Path, script: str) -> set[str]:
    """All modules whose code counts, the script first."""
    reached, waiting = set(), [script]
    while waiting:
        module = waiting.pop()
        if module not in reached and module not in NEUTRAL and _file(scripts, module).is_file():
            reached.add(module)
            waiting += _parsed(_file(scripts, module))[1]
    return reached


def _file(scripts: Path, module: str) -> Path:
    return scripts / Path(*module.split(".")).with_suffix(".py")


@cache
def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    """The code of a file as a syntax tree without docstrings, and the names of modules it may import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body[0] = ast.Pass()
    return ast.dump(tree), tuple(imports)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


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
