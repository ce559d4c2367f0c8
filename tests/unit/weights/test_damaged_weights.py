"""Damaged, doubled, quantised and incomplete model folders: every reader of weights refuses them in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from architectures import make
from damaged import FILES, FOLDERS, TENSORS, indexed, rewritten, safetensors, weight_map
from safetensors.torch import load_file

from knowshift.models.loading import check_model
from knowshift.runtime.artefacts import MANIFEST, read_manifest, whole_directory
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.deltas import Delta, diff_weights
from knowshift.weights.model_folder import SINGLE
from knowshift.weights.safetensors_files import WeightFiles, read_header


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    make("llama").save_pretrained(folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def refused(read: Callable[[], object]) -> str:
    """Return the one line in which reading is refused."""
    with pytest.raises(KnowshiftError) as caught:
        read()
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_refused_in_one_line(kind: str, model: Path) -> None:
    (model / SINGLE).write_bytes(FILES[kind])
    assert SINGLE in refused(lambda: WeightFiles(model))
    assert refused(lambda: check_model(model)) == refused(lambda: WeightFiles(model))


def test_what_git_leaves_in_the_place_of_a_large_file_is_named(model: Path) -> None:
    (model / SINGLE).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
    assert refused(lambda: check_model(model)).endswith("fetch them with: git lfs pull")


def test_sound_headers_are_read_as_the_library_reads_them(saved: Path) -> None:
    tensors = load_file(saved / SINGLE)
    stored = read_header(saved / SINGLE)
    assert {name: list(tensor.shape) for name, tensor in stored.items()} == {
        name: list(tensor.shape) for name, tensor in tensors.items()
    }
    weights = WeightFiles(saved)
    for name, tensor in tensors.items():
        if name in weights.tensors:
            assert weights.read(name).tobytes() == tensor.numpy().tobytes()


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_which_weights_cannot_be_told_is_refused(kind: str, model: Path) -> None:
    damage, said = FOLDERS[kind]
    damage(model)
    assert said in refused(lambda: WeightFiles(model))
    assert said in refused(lambda: check_model(model))


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_are_not_those_of_the_model_are_refused(kind: str, model: Path) -> None:
    damage, said = TENSORS[kind]
    damage(model)
    assert said in refused(lambda: check_model(model))


def test_an_index_of_one_file_is_one_set_of_weights(model: Path) -> None:
    indexed(model, weight_map(model, SINGLE), single=True)
    check_model(model)


ENTRIES: dict[str, Callable[[dict], Any]] = {
    "no manifest's format": lambda manifest: {**manifest, "format": None},
    "no base": lambda manifest: {name: value for name, value in manifest.items() if name != "base"},
    "files is a list": lambda manifest: {**manifest, "files": []},
    "no bytes": lambda manifest: {**manifest, "files": {"delta-00001.safetensors": {"sha256": "0"}}},
    "entry is a number": lambda manifest: {**manifest, "files": {"delta-00001.safetensors": 1}},
    "a file outside": lambda manifest: {**manifest, "files": {"../x": {"bytes": 1, "sha256": "0"}}},
    "a root": lambda manifest: {**manifest, "files": {"/etc/passwd": {"bytes": 1, "sha256": "0"}}},
    "a zero byte": lambda manifest: {**manifest, "files": {"\0": {"bytes": 1, "sha256": "0"}}},
    "a list": lambda manifest: [manifest],
    "nested": lambda manifest: b"[" * 200_000,
    "not UTF-8": lambda manifest: b"\xff",
    "digits": lambda manifest: b'{"files": ' + b"9" * 5000 + b"}",
}


@pytest.fixture
def delta(saved: Path, tmp_path: Path) -> Path:
    """A delta of the tiny model to one whose norm differs."""
    tuned = Path(shutil.copytree(saved, tmp_path / "tuned"))
    rewritten(tuned, lambda all_: {name: one + 1 if "norm" in name else one for name, one in all_.items()})
    about: dict[str, Any] = {"kind": "delta"}
    with whole_directory(tmp_path / "delta", about) as folder:
        about |= diff_weights(saved, tuned, folder)
    Delta(tmp_path / "delta", saved)
    return tmp_path / "delta"


@pytest.mark.parametrize("kind", ENTRIES)
def test_manifests_without_what_they_must_have(kind: str, saved: Path, delta: Path) -> None:
    made = ENTRIES[kind](read_manifest(delta))
    (delta / MANIFEST).write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())
    refused(lambda: Delta(delta, saved))


STATED: dict[str, Callable[[dict], Any]] = {
    "nothing": lambda entries: None,
    "no JSON": lambda entries: b"{",
    "a list": lambda entries: [entries],
    "no chunks": lambda entries: {name: {**entry, "chunks": None} for name, entry in entries.items()},
    "negative chunks": lambda entries: {name: {**entry, "chunks": [-1]} for name, entry in entries.items()},
    "other chunks": lambda entries: {name: {**entry, "chunks": [1 << 62]} for name, entry in entries.items()},
    "an unknown type": lambda entries: {name: {**entry, "dtype": "float12"} for name, entry in entries.items()},
    "another shape": lambda entries: {name: {**entry, "shape": [1 << 40]} for name, entry in entries.items()},
    "a tensor fewer": lambda entries: dict(list(entries.items())[1:]),
    "a tensor more": lambda entries: {**entries, "other.weight": next(iter(entries.values()))},
}


@pytest.mark.parametrize("kind", STATED)
def test_a_delta_whose_files_state_what_cannot_be(kind: str, saved: Path, delta: Path) -> None:
    """The manifest fits, as if whoever made the file had made it too."""
    (path,) = delta.glob("delta-*.safetensors")
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    made = STATED[kind](json.loads(header["__metadata__"].pop("tensors")))
    if made is not None:
        header["__metadata__"]["tensors"] = made.decode() if isinstance(made, bytes) else json.dumps(made)
    content = safetensors(header, data[8 + length :])
    about = {name: value for name, value in read_manifest(delta).items() if name != "files"}
    with whole_directory(delta, about) as folder:
        (folder / path.name).write_bytes(content)
    assert "delta" in refused(lambda: Delta(delta, saved))
