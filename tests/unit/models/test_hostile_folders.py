"""What a model's folder brings is never obeyed: links to files of the user's, code, names, words for a card."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from architectures import make
from safetensors.torch import load_file, save_file

import tiny
from fuzzing import runs_well
from knowshift.models.loading import check_model, end_ids, load_model, load_tokenizer
from knowshift.models.sources import resolve
from knowshift.runtime.artefacts import whole_directory
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.deltas import diff_weights
from knowshift.weights.safetensors_files import WeightFiles


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with a tokenizer."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    make("llama").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(saved, tmp_path / "given/model"))


def changed(path: Path, **values: Any) -> None:
    """Change values of a JSON file."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **values}))


def taken(model: Path, output: Path) -> set[str]:
    """Take a model from a folder, and return the names of its files."""
    with whole_directory(output, {}) as directory:
        resolve({"directory": str(model)}, directory)
    return {path.name for path in output.iterdir()}


@pytest.mark.parametrize("name", ["notes.txt", "generation_config.json", "tokenizer.model", "chat_template.jinja"])
def test_a_link_to_a_file_of_the_users_is_not_copied(model: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(os.path.relpath(tmp_path / "secret", model))
    with pytest.raises(KnowshiftError, match=f"{name} is a link to .*secret, which lies outside"):
        taken(model, tmp_path / "taken")
    assert not (tmp_path / "taken").exists()
    command = ["--base", str(model), "--tuned", str(model), "--percent", "0", "--output", str(tmp_path / "out")]
    assert not runs_well("export_model", command, tmp_path / "out")


def test_links_within_a_folder_and_into_the_cache_of_the_hub_are_followed(model: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "cache/models--a--b/snapshots/0"
    (tmp_path / "cache/models--a--b/blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(model.iterdir()):
        blob = tmp_path / f"cache/models--a--b/blobs/{number}"
        path.rename(blob)
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    (snapshot / "notes.txt").symlink_to("config.json")
    names = {path.name for path in snapshot.iterdir()}
    assert taken(snapshot, tmp_path / "taken") == names | {"manifest.json"}
    assert not any(path.is_symlink() for path in (tmp_path / "taken").iterdir())


def test_a_pipe_is_no_file_of_a_model(model: Path, tmp_path: Path) -> None:
    os.mkfifo(model / "pipe.json")
    assert "pipe.json" not in taken(model, tmp_path / "taken")


CODE = "from pathlib import Path\nPath({mark!r}).touch()\nclass T: pass\n"
CARRIERS: dict[str, Callable[[Path], object]] = {
    "tokenizer": lambda folder: changed(
        folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", None]}, tokenizer_class="T"
    ),
    "tokenizer and model": lambda folder: (
        changed(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", None]}, tokenizer_class="T"),
        changed(folder / "config.json", auto_map={"AutoConfig": "code.T", "AutoTokenizer": "code.T"}),
    ),
    "generation": lambda folder: (
        (folder / "custom_generate").mkdir(),
        shutil.copy(folder / "code.py", folder / "custom_generate/generate.py"),
        changed(folder / "generation_config.json", custom_generate="."),
    ),
    "attention": lambda folder: changed(folder / "config.json", attn_implementation="somebody/kernel"),
    "attention inside": lambda folder: changed(
        folder / "config.json", text_config={"_attn_implementation_internal": {"": "somebody/kernel"}}
    ),
    "attention of old": lambda folder: changed(folder / "config.json", _attn_implementation="somebody/kernel"),
}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_code_that_comes_with_a_folder_does_not_run(model: Path, carrier: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (model / "code.py").write_text(CODE.format(mark=str(mark)))
    CARRIERS[carrier](model)
    for load in (check_model, lambda folder: load_model(folder, "float32"), load_tokenizer, WeightFiles):
        try:
            load(model)
        except KnowshiftError as error:
            assert "\n" not in str(error)
    if carrier.startswith("attention"):
        with pytest.raises(KnowshiftError, match=r"'somebody/kernel'.* which is code on the hub"):
            taken(model, tmp_path / "taken")
    else:
        taken(model, tmp_path / "taken")
        assert load_model(tmp_path / "taken", "float32").config._attn_implementation == "sdpa"
    assert not mark.exists()


@pytest.mark.parametrize("declared", [[[1]], {"a": 1}, "2", [True], [1, None, "x"], 1.5])
def test_end_tokens_that_are_none_are_refused(model: Path, declared: Any) -> None:
    changed(model / "generation_config.json", eos_token_id=declared)
    with pytest.raises(KnowshiftError) as caught:
        end_ids(model, load_tokenizer(model))
    assert str(model) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'"x"', b"[" * 100_000])
def test_damaged_files_beside_the_weights_are_one_line(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    with pytest.raises(KnowshiftError) as caught:
        end_ids(model, load_tokenizer(model))
    assert str(model) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a\nerror: all is lost", "\x1b[2J", "x" * 1000])
def test_names_of_tensors_are_words_that_can_be_shown(model: Path, name: str) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({**tensors, name: tensors["model.norm.weight"].clone()}, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(KnowshiftError, match="is no file of a model") as caught:
        WeightFiles(model)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_a_tensor_of_more_axes_than_arrays_have(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].reshape([1] * 60 + [-1])
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(KnowshiftError, match="61 axes"):
        WeightFiles(model)


@pytest.mark.parametrize(
    "source",
    [
        {"hub": "a/b\nlicense: mit\nextra: x", "revision": "0" * 40},
        {"hub": "a/b", "revision": "`\n# A heading"},
        {"hub": ["a"], "revision": 3},
        {"wheel": "a](http://x)", "version": "1", "file": "x"},
        {"wheel": "a", "version": "1", "file": "`\n---\n<script>"},
    ],
)
def test_a_manifest_from_elsewhere_writes_no_words_into_a_card(model: Path, source: dict, tmp_path: Path) -> None:
    changed(model / "manifest.json", files={}, source=source)
    base, tuned, delta = model, shutil.copytree(model, tmp_path / "tuned"), tmp_path / "delta"
    facts: dict = {"kind": "delta"}
    with whole_directory(delta, facts) as directory:
        facts |= diff_weights(base, tuned, directory)
    output = tmp_path / "restored"
    command = ["--base", str(base), "--delta", str(delta), "--percent", "0", "--output", str(output)]
    assert runs_well("export_model", command, output)
    card = (output / "README.md").read_text()
    assert "whose base is `model`," in card
    assert not any(word in card for word in ("license", "heading", "http", "script>", "base_model"))
