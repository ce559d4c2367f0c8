"""What `cli.command_line` does to the Python that runs a script: which modules are found, and what imports cost."""

import gc
import subprocess
import sys
from pathlib import Path

from cli.command_line import quick_imports

SCRIPTS = Path(__file__).parents[3] / "scripts"


def run_script(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a script beside copies of `cli` and `knowshift`; its `main` has this body."""
    for name in ("cli", "knowshift"):
        (folder / name).symlink_to(SCRIPTS / name)
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    text = f"import sys\nfrom cli.command_line import quick_imports, run\n\ndef main():\n{lines}\n\nrun(main)\n"
    (folder / "script.py").write_text(text)
    return subprocess.run([sys.executable, str(folder / "script.py")], capture_output=True, text=True, check=False)


def test_a_script_named_like_a_package_does_not_stand_in_for_it(tmp_path: Path) -> None:
    (tmp_path / "jinja2.py").write_text("raise SystemExit('the script was imported')\n")
    done = run_script(tmp_path, "import jinja2\nprint(jinja2.__file__)")
    assert done.returncode == 0 and str(tmp_path) not in done.stdout, done.stderr


def test_pyarrow_loads_no_pandas_until_it_is_asked_for_a_data_frame(tmp_path: Path) -> None:
    body = (
        "with quick_imports():\n    import pyarrow as pa\ntable = pa.table({'a': [1]})\nprint('pandas' in sys.modules)"
    )
    done = run_script(tmp_path, f"{body}\nprint(type(table.to_pandas()).__name__)")
    assert done.stdout.split() == ["False", "DataFrame"], done.stderr


def test_transformers_loads_no_scipy_and_jobs_find_it_afterwards(tmp_path: Path) -> None:
    body = (
        "with quick_imports():\n    import transformers.modeling_utils, peft\nprint('scipy' in sys.modules)\n"
        "from scipy.special import ndtri\nprint(ndtri(0.5))"
    )
    done = run_script(tmp_path, body)
    assert done.stdout.split() == ["False", "0.0"], done.stderr


def test_imports_leave_the_garbage_collector_as_it_was() -> None:
    before = gc.get_threshold()
    with quick_imports():
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
    gc.unfreeze()
