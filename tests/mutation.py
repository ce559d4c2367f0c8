"""Change the core's code in small ways, one at a time, and see whether the tests notice: the score of the tests.

    python tests/mutation.py [PATTERN …]

A pattern chooses modules, such as 'mastery/*'. mutmut wants the package below src/, so the code and its tests are
copied into .mutation/, where results stay: the next call goes on. A mutant survives if no test of the rooms named below
fails. mutmut leaves decorated functions out, among them the compiled loops of restoration/kernels.py.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PLACE = REPOSITORY / ".mutation"
# What is changed, and the tests that have to notice.
CORE = {
    "facts/matching.py": [f"tests/unit/facts/test_{name}.py" for name in ("matching", "writings", "texts")],
    "facts/drawing.py": ["tests/unit/facts", "tests/unit/finetuning/test_orders.py"],
    "mastery/levels.py": ["tests/unit/mastery"],
    "mastery/reliability.py": ["tests/unit/mastery"],
    "randomness.py": ["tests/unit/test_randomness.py"],
    "finetuning/orders.py": ["tests/unit/finetuning/test_orders.py"],
    "restoration/selection.py": ["tests/unit/restoration/test_selection.py"],
    "restoration/selection_passes.py": ["tests/unit/restoration/test_selection.py"],
    "restoration/sort_keys.py": ["tests/unit/restoration/test_sort_keys.py"],
    "restoration/relative_changes.py": ["tests/unit/restoration/test_selection.py"],
    "weights/bit_patterns.py": ["tests/unit/weights/test_bit_patterns.py"],
    "weights/delta_codec.py": ["tests/unit/weights/test_delta_codec.py"],
    "weights/deltas.py": ["tests/unit/weights/test_deltas.py"],
    "weights/regions.py": ["tests/unit/weights/test_regions.py"],
    "weights/versions.py": ["tests/unit/weights/test_deltas.py"],
    "analysis/contrasts.py": ["tests/unit/analysis/test_contrasts.py"],
    "analysis/estimates.py": ["tests/unit/analysis"],
    "analysis/rank_tests.py": ["tests/unit/analysis"],
    "analysis/confidence.py": ["tests/unit/analysis/test_confidence.py"],
}
UNNOTICED = {0, 5, 33}  # exit status of the tests of a mutant that mutmut keeps: all passed, or there were none


def prepare(modules: list[str]) -> None:
    """Copy the code and the tests to where mutmut finds them, and say what it is to do there."""
    PLACE.mkdir(exist_ok=True)
    for name in ("src", "scripts", "rules", "tests", "resources", "configs", "schemas", "profiles"):
        source, target = REPOSITORY / ("scripts" if name == "src" else name), PLACE / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    for module in modules:  # that an earlier call with other modules copied as they are, which mutmut takes for done
        made = PLACE / f"mutants/src/knowshift/{module}"
        if not made.with_name(f"{made.name}.meta").exists():
            made.unlink(missing_ok=True)
    settings = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    tests = sorted({test for module in modules for test in CORE[module]})
    mutmut = {
        "source_paths": ["src"],
        "only_mutate": [f"src/knowshift/{module}" for module in modules],
        "also_copy": ["scripts", "rules", "resources", "configs", "schemas", "profiles", "config.yaml", "Snakefile"],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-m", "not slow"],
        "pytest_add_cli_args_test_selection": tests,
    }
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in mutmut.items())
    changed = settings.replace('pythonpath = ["scripts", ', 'pythonpath = ["src", ')
    (PLACE / "pyproject.toml").write_text(f"{changed}\n[tool.mutmut]\n{lines}", encoding="utf-8")
    for name in ("config.yaml", "Snakefile"):
        shutil.copy2(REPOSITORY / name, PLACE / name)


def scores(modules: list[str]) -> list[tuple[str, int, int, list[str]]]:
    """Read what mutmut found: per module how many mutants were noticed and tried, and which survived."""
    found = []
    for module in modules:
        path = PLACE / f"mutants/src/knowshift/{module}.meta"
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"] if path.exists() else {}
        tried = {name: code for name, code in codes.items() if code is not None}
        survived = sorted(name for name, code in tried.items() if code in UNNOTICED)
        found.append((module, len(tried) - len(survived), len(tried), survived))
    return found


def main() -> None:
    """Run mutmut, and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], help="Modules below knowshift/ (default: all).")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="Mutants at a time (default: 1).")
    arguments = parser.parse_args()
    modules = [module for module in CORE if any(fnmatch(module, pattern) for pattern in arguments.patterns)]
    prepare(modules)
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(arguments.processes)]
    status = subprocess.run(command, cwd=PLACE, check=False).returncode
    total: Counter[str] = Counter()
    for module, noticed, tried, survived in scores(modules):
        total.update(noticed=noticed, tried=tried)
        print(f"{module}: {noticed} of {tried} mutants noticed" + "".join(f"\n    {name}" for name in survived))
    if total["tried"]:
        print(f"score: {100 * total['noticed'] / total['tried']:.1f} % of {total['tried']} mutants")
    raise SystemExit(status)


if __name__ == "__main__":
    main()
