"""A digest of code sees what reaches a rule's result, definition by definition, and nothing else."""

import ast
import csv
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import code_digests.digests as provenance
import neutral
from neutral import NeutralError, settle

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted(set(filter(None, neutral.scripts_of_rules().values())))


# --- the code of the project ---


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of scripts/."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "scripts"


def digests(scripts: Path) -> dict[str, str]:
    """Map each script of a rule to the digest of its code."""
    fresh = provenance.Code(scripts)
    return {name: fresh.digest(name) for name in SCRIPTS}


def changed(scripts: Path, file: str, old: str, new: str) -> set[str]:
    """Replace a text in a file, and return the scripts whose digests change."""
    before = digests(scripts)
    text = (scripts / file).read_text()
    assert old in text
    (scripts / file).write_text(text.replace(old, new))
    after = digests(scripts)
    return {name for name in before if before[name] != after[name]}


def test_every_rule_but_that_of_the_delta_format_is_keyed_to_its_script() -> None:
    rules = neutral.scripts_of_rules()
    assert {rule for rule, script in rules.items() if script is None} == {"diff_weights"}
    assert all((REPOSITORY / f"scripts/{script}.py").is_file() for script in SCRIPTS)


def test_code_that_reaches_a_result_changes_its_digest_only(code: Path) -> None:
    assert changed(code, "knowshift/mastery/probing.py", "skip_special_tokens=True", "skip_special_tokens=False") == {
        "probe_mastery"
    }
    assert changed(code, "knowshift/report/figures/theme.py", '"fontSize": 14', '"fontSize": 15') == {"plot", "report"}
    assert changed(code, "knowshift/finetuning/schedule.py", "0.5 * (1 +", "0.4 * (1 +") == {"finetune"}


def test_scripts_share_modules_without_sharing_digests(code: Path) -> None:
    assert changed(
        code, "knowshift/mastery/levels.py", "first[fact][template] = position if", "first[fact][template] = 1 if"
    ) == {"grade_mastery"}
    column = 'field("correct", pa.int64()),'
    more = f'{column}\n    field("wrong", pa.int64()),'
    assert changed(code, "knowshift/analysis/run_schemas.py", column, more) == {"tabulate_model"}
    assert changed(code, "knowshift/randomness.py", "def derive_seed", "UNUSED = 1\n\n\ndef derive_seed") == set()
    seeds = changed(code, "knowshift/canonical.py", "sort_keys=True, separators", "sort_keys=False, separators")
    assert {"probe_mastery", "draw_order", "finetune"} <= seeds  # seeds are made with it; writing is not in them


def test_what_a_model_is_generated_with_counts_wherever_it_is_asked(code: Path) -> None:
    asking = {"probe_mastery", "evaluate_base", "evaluate", "evaluate_restored", "evaluate_tasks"}
    assert (
        changed(code, "knowshift/generation/kv_cache.py", "add_(attention_mask)", "add_(attention_mask * 1)") == asking
    )
    register = "AttentionInterface.register(ATTENTION, slot_attention)"
    assert (
        changed(code, "knowshift/generation/kv_cache.py", register, register.replace("(ATTENTION", '("other"'))
        == asking
    )


def test_comments_docstrings_and_formatting_do_not_count(code: Path) -> None:
    before = digests(code)
    for path in code.rglob("*.py"):
        tree = ast.parse(path.read_text())
        path.write_text("# a comment\n" + ast.unparse(tree).replace("Raises:", "May raise:"))
    assert digests(code) == before


def test_reporting_code_does_not_count(code: Path) -> None:
    assert changed(code, "knowshift/runtime/progress.py", "mininterval=1.0", "mininterval=2.0") == set()


def moved(scripts: Path) -> None:
    """Move every module of the library that counts to one new package, under another name."""
    modules = {
        ".".join(path.relative_to(scripts).with_suffix("").parts): path
        for path in scripts.glob("*/**/*.py")
        if path.stem != "__init__"
    }
    moves = {name: "elsewhere." + name.replace(".", "_") for name in modules if not provenance.is_neutral(name)}

    def statement(node: ast.ImportFrom) -> str:
        lines = []
        for alias in node.names:
            bound = f" as {alias.asname or alias.name}"
            if (inner := f"{node.module}.{alias.name}") in moves:
                package, _, name = moves[inner].rpartition(".")
                lines.append(f"from {package} import {name}{bound}")
            else:
                lines.append(f"from {moves.get(node.module, node.module)} import {alias.name}{bound}")
        return "; ".join(lines)

    for path in scripts.rglob("*.py"):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.ImportFrom):
                assert not node.level
                lines[node.lineno - 1] = " " * node.col_offset + statement(node)
                lines[node.lineno : node.end_lineno] = [""] * (node.end_lineno - node.lineno)
        path.write_text("\n".join(lines))
    (scripts / "elsewhere").mkdir()
    for name, target in moves.items():
        modules[name].rename(scripts / f"{target.replace('.', '/')}.py")


def test_where_code_lives_does_not_count(code: Path) -> None:
    before = digests(code)
    moved(code)
    assert len(list((code / "elsewhere").iterdir())) > 50
    assert digests(code) == before


# --- by construction ---

LIBRARY = {
    "made.py": """
        from package.shapes import area as surface
        from package import other
        from package.settings import SIZE as size
        import package.third as third

        SIDE = 2

        def main():
            print(surface(SIDE), other.used(), third.used(), size)

        if __name__ == "__main__":
            main()
    """,
    "package/__init__.py": "",
    "package/shapes.py": '''
        """Shapes."""
        import math
        from functools import cache
        from package.registry import note

        UNIT = 1.0
        PAIR, OTHER = (1, 2)

        @cache
        def area(side, power=UNIT):
            """An area."""
            return _scaled(side) ** power

        def _scaled(side):
            from package.lazy import SCALE

            return Shape(side).side * SCALE

        class Shape:
            """A shape."""

            edges = PAIR

            def __init__(self, side):
                self.side = side

            def unused(self):
                return math.pi

        def unreached():
            return OTHER

        @note
        def registered():
            return 3
    ''',
    "package/registry.py": """
        SEEN = []

        def note(function):
            SEEN.append(function)
            return function

        def forget():
            SEEN.clear()
    """,
    "package/lazy.py": "SCALE = 2\nOTHER = 3\n",
    "package/other.py": "def used():\n    return 1\n\n\ndef unused():\n    return 2\n",
    "package/third.py": "from package.fourth import *\n\n\ndef used():\n    return FOURTH\n",
    "package/fourth.py": "FOURTH = 4\nFIFTH = 5\n",
    "package/apart.py": "import sys\n\nsys.setrecursionlimit(5000)\n",
    "package/settings.py": 'from pydantic import Field\n\nSIZE = Field(default=5, description="Its help.")\n',
}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The made-up library, in files."""
    for name, text in LIBRARY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "counts"),
    [
        ("made.py", "SIDE = 2", "SIDE = 3", True),
        ("made.py", "SIDE = 2", "SIDE = 2\nMORE = 1", False),
        ("made.py", "    main()\n", "    main()  # at last\n", False),
        ("made.py", "    main()\n", "    main(1)\n", True),
        ("made.py", "surface(SIDE)", "surface(SIDE, 2)", True),
        ("made.py", "import area as surface", "import unreached as surface", True),
        ("made.py", "import area as surface", "import area as surface, unreached", False),
        ("made.py", "other.used()", "other.unused()", True),
        ("made.py", "other.used()", "getattr(other, 'used')()", True),
        ("package/shapes.py", '"""An area."""', '"""The area of a shape."""', False),
        ("package/shapes.py", "power=UNIT", "power=PAIR[0]", True),
        ("package/shapes.py", "UNIT = 1.0", "UNIT = 1", True),
        ("package/shapes.py", "@cache\n", "", True),
        ("package/shapes.py", "return _scaled(side) ** power", "return (_scaled(side)) ** (power)", False),
        ("package/shapes.py", "PAIR, OTHER = (1, 2)", "PAIR, OTHER = (2, 2)", True),
        ("package/shapes.py", "edges = PAIR", "edges = 5", True),
        ("package/shapes.py", "return math.pi", "return math.e", True),
        ("package/shapes.py", "return OTHER", "return OTHER + 1", False),
        ("package/shapes.py", "return 3", "return 4", True),
        ("package/shapes.py", "import math", "import math, json", False),
        ("package/shapes.py", "import math", "import math\nimport package.apart", True),
        ("package/shapes.py", "import math", "import math\nimport package.lazy", False),
        ("package/shapes.py", "import math", "import numpy as math", True),
        ("package/registry.py", "SEEN.append(function)", "SEEN.append(1)", True),
        ("package/registry.py", "SEEN.clear()", "SEEN.pop()", False),
        ("package/lazy.py", "SCALE = 2", "SCALE = 3", True),
        ("package/lazy.py", "OTHER = 3", "OTHER = 4", False),
        ("package/lazy.py", "OTHER = 3", "OTHER = 3\nSCALE += 1", True),
        ("package/lazy.py", "OTHER = 3", "OTHER = 3\nif OTHER:\n    SCALE = 1", True),
        ("package/lazy.py", "SCALE = 2", "SCALE = globals()['OTHER']", True),
        ("package/other.py", "return 2", "return 3", False),
        ("package/fourth.py", "FIFTH = 5", "FIFTH = 6", True),  # a star takes all
        ("package/apart.py", "5000", "6000", False),
        ("package/settings.py", '"Its help."', '"What it is for."', False),
        ("package/settings.py", "default=5", "default=6", True),
    ],
)
def test_an_edit_counts_where_it_is_reached(made: Path, file: str, old: str, new: str, counts: bool) -> None:
    before = provenance.code_digest(made, "made")
    text = (made / file).read_text()
    assert old in text
    (made / file).write_text(text.replace(old, new, 1))
    assert (provenance.Code(made).digest("made") != before) == counts


def test_two_definitions_of_one_name_are_two(made: Path) -> None:
    """Two callers change places: the same texts are reached, by other ways."""
    text = (made / "made.py").read_text() + "\n\ndef more():\n    from package.%s import used\n    return used()\n"
    text = text.replace("print(surface(SIDE),", "from package.%s import used\n    print(used(), more(),")
    found = set()
    for first, second in (("other", "third"), ("third", "other"), ("other", "other")):
        (made / "made.py").write_text(text % (first, second))
        found.add(provenance.Code(made).digest("made"))
    assert len(found) == 3
    (made / "package/elsewhere.py").write_text((made / "package/third.py").read_text())
    (made / "made.py").write_text((text % ("other", "third")).replace("package.third", "package.elsewhere"))
    assert provenance.Code(made).digest("made") in found  # the same definition, in another module


def test_what_reaches_anything_makes_all_of_it_count(made: Path) -> None:
    use = "\n\ndef used():\n    return __import__('package.apart')\n"
    (made / "package/other.py").write_text(use)
    before = provenance.Code(made).digest("made")
    (made / "package/apart.py").write_text("LIMIT = 1\n")
    assert provenance.Code(made).digest("made") != before


def test_what_reaches_anything_reaches_nothing_that_is_left_out(made: Path) -> None:
    (made / "package/other.py").write_text("\n\ndef used():\n    return __import__('package.apart')\n")
    before = provenance.Code(made).digest("made")
    (made / "knowshift/runtime").mkdir(parents=True)
    (made / "knowshift/runtime/progress.py").write_text("INTERVAL = 1\n")
    assert provenance.Code(made).digest("made") == before


def test_a_digest_does_not_depend_on_where_the_code_lies(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "elsewhere/scripts")
    assert provenance.code_digest(made, "made") == provenance.code_digest(tmp_path / "elsewhere/scripts", "made")
    with pytest.raises(FileNotFoundError, match="absent"):
        provenance.code_digest(made, "absent")


# --- changes that are recorded as neutral ---

A, B, C = (letter * 16 for letter in "abc")


def test_chains_of_neutral_changes_are_followed_and_nothing_else_is() -> None:
    changes = {("finetune", B): A, ("finetune", C): B}
    assert [settle("finetune", digest, changes) for digest in (A, B, C)] == [A, A, A]
    assert settle("finetune", "d" * 16, changes) == "d" * 16
    assert settle("evaluate", C, changes) == C
    assert settle("finetune", A, {("finetune", A): B, ("finetune", B): A}) in (A, B)  # ends


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "line 1"),
        (f"script,new,old,reason\nfinetune,{A},{B},x\nfinetune,{A},short,x\n", "line 3"),
        (f"script,new,old,reason\nfinetune,{A},{B}\n", "line 2"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "changes.csv").write_text(text)
    with pytest.raises(NeutralError, match=said):
        neutral.read_changes(tmp_path / "changes.csv")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_neutral_changes_are_recorded_against_what_was_committed(code: Path) -> None:
    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=code.parent, capture_output=True, text=True, check=False)
        return f"{done.returncode} {done.stdout}{done.stderr}"

    def git(*arguments: str) -> None:
        assert run("git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments).startswith("0"), arguments

    def command(*arguments: str) -> str:
        return run(sys.executable, "rules/neutral.py", *arguments)

    def edit(old: str, new: str) -> None:
        path = code / "knowshift/finetuning/schedule.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    shutil.copytree(REPOSITORY / "rules", code.parent / "rules", ignore=shutil.ignore_patterns("__pycache__", "*.csv"))
    assert command("finetune", "--reason", "x").startswith("1 error: git knows no code of HEAD")
    git("init", "-q")
    git("add", "rules", "scripts")
    git("commit", "-qm", "before")
    original = digests(code)["finetune"]
    assert command() == "0 no code that makes a result has changed since HEAD\n"

    edit("0.5 * (1 + math.cos", "0.5 * (1.0 + math.cos")
    assert command() == "0 finetune\n"
    assert command("tune", "--reason", "x").startswith("1 error: there is no rule tune; the rules are analyse_model, ")
    assert command("diff_weights", "--reason", "x") == (
        "1 error: rule diff_weights is not keyed to its code, so no change of it makes anything stale\n"
    )
    assert command("evaluate", "--reason", "x").startswith("1 error: the code of evaluate makes nothing stale")
    assert command("finetune") == "1 error: say why the results are the same: --reason TEXT\n"
    assert command("finetune", "--reason", "one is one").startswith("0 neutral_changes.csv: 1 recorded (finetune)")
    assert command("finetune", "--reason", "again").startswith("1 error: the code of finetune makes nothing stale")
    git("add", "rules", "scripts")
    git("commit", "-qm", "between")

    edit("0.5 * (1.0 + math.cos", "0.50 * (1.0 + math.cos")  # the same number, so the same code
    assert command() == "0 no code that makes a result has changed since HEAD\n"
    edit("0.50 * (1.0 + math.cos", "(0.5) * (math.cos(0) + math.cos")
    assert command("--all", "--reason", "cos 0 is one").startswith("0 neutral_changes.csv: 1 recorded (finetune)")
    changes = neutral.read_changes(code.parent / "rules/neutral_changes.csv")
    assert settle("finetune", digests(code)["finetune"], changes) == original  # over two changes
    with (code.parent / "rules/neutral_changes.csv").open(newline="") as file:
        assert [row["reason"] for row in csv.DictReader(file)] == ["one is one", "cos 0 is one"]
    edit("(0.5) * (math", "0.4 * (math")
    real = digests(code)["finetune"]
    assert settle("finetune", real, changes) == real != original
