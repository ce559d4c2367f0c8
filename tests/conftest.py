from pathlib import Path

import pytest

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
