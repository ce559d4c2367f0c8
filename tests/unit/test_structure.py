"""The library's rooms: who may import from whom (CONTRIBUTING.md has the picture)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

# A room may import from rooms of later lines; from those of its own line only where OTHERS says so.
ORDER = [
    ["scripts"],
    ["cli", "planning"],
    ["analysis", "finetuning"],
    ["restoration", "mastery", "evaluation"],
    ["report", "configuration", "generation", "models"],
    ["weights", "facts"],
    ["runtime", "randomness"],
    ["canonical", "allowed_values"],
]
OTHERS = {"scripts": {"planning"}}
FORBIDDEN = {"analysis": {"report"}, "finetuning": {"evaluation"}}


def room(module: str) -> str:
    """The room of a module: `knowshift.weights.deltas` is in weights."""
    parts = module.split(".")
    return parts[1] if parts[0] == "knowshift" else parts[0]


def imports(path: Path) -> set[str]:
    """The rooms that a file imports from, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("knowshift", "cli"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {room(name) for name in names}
        elif isinstance(node, ast.Import):
            found |= {room(alias.name) for alias in node.names if alias.name.split(".")[0] in ("knowshift", "cli")}
    return found


def files() -> list[tuple[str, Path]]:
    """Every file with its room."""
    paths = [path.relative_to(SCRIPTS) for path in SCRIPTS.rglob("*.py")]
    named = [
        ("scripts" if len(path.parts) == 1 else room(".".join(path.with_suffix("").parts)), path) for path in paths
    ]
    return [(name, SCRIPTS / path) for name, path in named if path.name != "__init__.py"]


def test_imports_run_in_one_direction() -> None:
    level = {name: number for number, names in enumerate(ORDER) for name in names}
    assert len(files()) > 100 and {name for name, _ in files()} == set(level)
    for name, path in files():
        for other in imports(path) - {name}:
            allowed = level[other] > level[name] or other in OTHERS.get(name, ())
            assert allowed and other not in FORBIDDEN.get(name, ()), f"{path}: {name} must not import from {other}"


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    """Rules import rooms, and must not load torch with them."""
    for path in SCRIPTS.rglob("__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant), path


IMPORT_ALL = """
import ast, gc, importlib, sys, threading
from pathlib import Path

scripts = Path(sys.argv[1])
sys.path.append(str(scripts))
own = sorted(
    ".".join(path.relative_to(scripts).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("knowshift", "cli")
    for path in (scripts / folder).rglob("*.py")
)


def packages(module):
    path = scripts.joinpath(*module.split("."))
    body = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()).body
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] not in ("knowshift", "cli"):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def state():
    paths = [str(finder) for finder in sys.meta_path], list(sys.path)
    return gc.get_threshold(), gc.isenabled(), *paths, threading.active_count()


for name in sorted({package for module in own for package in packages(module)}):
    importlib.import_module(name)  # what installed packages do is not ours
for name in own:
    before = state()
    importlib.import_module(name)
    assert state() == before, f"{name}: {before} became {state()}"
print(len(own))
"""


@pytest.mark.slow
def test_importing_a_module_has_no_side_effect() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, str(SCRIPTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 90


def test_files_and_lines_are_short() -> None:
    """No file of code has more than 400 lines, and no line more than 120 columns (ruff sees Python alone)."""
    root = SCRIPTS.parent
    kinds = [(folder, kind) for folder in ("scripts", "rules", "tests") for kind in ("*.py", "*.smk", "*.sh")]
    paths = [path for folder, kind in kinds for path in (root / folder).rglob(kind)]
    settings = [root / "config.yaml", *(root / "configs").glob("*.yaml"), *(root / "profiles").rglob("*.yaml")]
    for path in [root / "Snakefile", root / "Makefile", *settings, *paths]:
        lines = path.read_text().splitlines()
        assert len(lines) <= 400, f"{path}: {len(lines)} lines"
        long = [number for number, line in enumerate(lines, 1) if len(line) > 120]
        assert not long, f"{path}: lines {long} are longer than 120 columns"
