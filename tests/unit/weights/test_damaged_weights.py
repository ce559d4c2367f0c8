"""Damaged, doubled, quantised and incomplete model folders: every reader of weights refuses them in one line."""

import json
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from architectures import make
from safetensors.torch import load_file, save_file

from cli.command_line import run
from knowshift.models.loading import check_model
from knowshift.runtime.artefacts import MANIFEST, read_manifest, whole_directory
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.deltas import Delta, diff_weights
from knowshift.weights.model_folder import INDEX, SINGLE
from knowshift.weights.safetensors_files import WeightFiles, read_header

Folder = Callable[[], Path]
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


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


def safetensors(header: Any, data: bytes = b"0" * 8, length: int | None = None) -> bytes:
    """Make a safetensors file of any header, which may be text, and may state another length than it has."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


FILES = {
    "empty": b"",
    "seven bytes": b"1234567",
    "an archive": b"PK\3\4" + bytes(100),
    "header longer than the file": safetensors({"a": ENTRY}, length=1 << 63),
    "no header": safetensors(b""),
    "header is a list": safetensors([ENTRY]),
    "header is not UTF-8": safetensors(b'{"\xff": 1}'),
    "header nested 200,000 times": safetensors(b'{"a":' * 200_000),
    "a lone surrogate": safetensors(json.dumps({"\ud800": ENTRY}).encode()),
    "metadata are numbers": safetensors({"__metadata__": {"a": 1}, "a": ENTRY}),
    "entry is a number": safetensors({"a": 1}),
    "no dtype": safetensors({"a": {"shape": [2], "data_offsets": [0, 8]}}),
    "no shape": safetensors({"a": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "no offsets": safetensors({"a": {"dtype": "F32", "shape": [2]}}),
    "an unknown dtype": safetensors({"a": {**ENTRY, "dtype": "F12"}}),
    "four bits": safetensors({"a": {**ENTRY, "dtype": "F4", "shape": [16]}}),
    "offsets are texts": safetensors({"a": {**ENTRY, "data_offsets": ["0", "8"]}}),
    "one offset": safetensors({"a": {**ENTRY, "data_offsets": [0]}}),
    "offsets exchanged": safetensors({"a": {**ENTRY, "data_offsets": [8, 0]}}),
    "negative offsets": safetensors({"a": {**ENTRY, "data_offsets": [-8, 0]}}),
    "offsets overlap": safetensors({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)),
    "a gap": safetensors({"a": ENTRY, "b": {**ENTRY, "data_offsets": [12, 20]}}, bytes(20)),
    "2^62 elements": safetensors({"a": {**ENTRY, "shape": [1 << 62], "data_offsets": [0, 1 << 62]}}),
    "2^66 elements": safetensors({"a": {**ENTRY, "shape": [1 << 33, 1 << 33], "data_offsets": [0, 8]}}),
    "5,000 digits": safetensors(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}'),
    "a negative size": safetensors({"a": {**ENTRY, "shape": [-2]}}),
    "a size is true": safetensors({"a": {**ENTRY, "shape": [True, 2]}}),
    "shape and offsets differ": safetensors({"a": {**ENTRY, "shape": [3]}}),
    "a tensor twice": safetensors(f'{{"a": {json.dumps(ENTRY)}, "a": {json.dumps(ENTRY)}}}'.encode()),
    "cut short": safetensors({"a": ENTRY}, b"0" * 7),
    "too long": safetensors({"a": ENTRY}, b"0" * 9),
    "no tensors": safetensors({}, b""),
}


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


def link_to_itself(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / name)


def indexed(folder: Path, index: Any, single: bool = False) -> None:
    """Give a folder an index, and its weights the name of a shard."""
    if not single:
        (folder / SINGLE).rename(folder / "a.safetensors")
    (folder / INDEX).write_bytes(index if isinstance(index, bytes) else json.dumps(index).encode())


def weight_map(folder: Path, file: Any = "a.safetensors") -> dict[str, Any]:
    """An index that says of every tensor that `file` holds it."""
    return {"weight_map": dict.fromkeys(load_file(folder / SINGLE), file)}


def configured(folder: Path, **more: Any) -> None:
    """Change the configuration of a model."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **more}))


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Change the tensors of a model."""
    save_file(change(load_file(folder / SINGLE)), folder / SINGLE, {"format": "pt"})


def without(*ends: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Leave tensors out."""
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.endswith(ends)}


# What is done to a folder, and what is said of it.
FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda folder: (folder / SINGLE).unlink(), "holds no weights"),
    "weights are a folder": (lambda folder: ((folder / SINGLE).unlink(), (folder / SINGLE).mkdir()), "no weights"),
    "weights link to themselves": (lambda folder: link_to_itself(folder, SINGLE), "holds no weights"),
    "configuration is damaged": (
        lambda folder: (folder / "config.json").write_bytes(b'{"a": \xff'),
        "config.json is d",
    ),
    "configuration is a list": (lambda folder: (folder / "config.json").write_text("[]"), "holds no JSON object"),
    "index is damaged": (lambda folder: indexed(folder, b"{"), f"{INDEX} is damaged"),
    "index is nested": (lambda folder: indexed(folder, b"[" * 200_000), f"{INDEX} is damaged"),
    "index has no map": (lambda folder: indexed(folder, {"metadata": {}}), "no weight_map"),
    "index has an empty map": (lambda folder: indexed(folder, {"weight_map": {}}), "no weight_map"),
    "index has a list": (lambda folder: indexed(folder, {"weight_map": ["a"]}), "no weight_map"),
    "index names a number": (lambda folder: indexed(folder, weight_map(folder, 1)), "names the file 1"),
    "index leaves the folder": (lambda folder: indexed(folder, weight_map(folder, "../a.safetensors")), "same folder"),
    "index names a root": (lambda folder: indexed(folder, weight_map(folder, "/a.safetensors")), "same folder"),
    "index names a pickle": (lambda folder: indexed(folder, weight_map(folder, "a.bin")), "must be *.safetensors"),
    "index names a zero byte": (lambda folder: indexed(folder, weight_map(folder, "\0.safetensors")), "same folder"),
    "index names a surrogate": (lambda folder: indexed(folder, weight_map(folder, "\ud800.safetensors")), "same fold"),
    "index names a missing file": (lambda folder: indexed(folder, weight_map(folder, "b.safetensors")), "not exist"),
    "index names a missing tensor": (
        lambda folder: indexed(folder, {"weight_map": {"a.weight": "a.safetensors"}}),
        "names the tensor a.weight, which no file holds",
    ),
    "two files hold a tensor": (
        lambda folder: (
            shutil.copy(folder / SINGLE, folder / "b.safetensors"),
            indexed(folder, {"weight_map": {"lm_head.weight": "a.safetensors", "model.norm.weight": "b.safetensors"}}),
        ),
        "both hold the tensor",
    ),
    "two sets of weights": (
        lambda folder: (
            shutil.copy(folder / SINGLE, folder / "a.safetensors"),
            indexed(folder, weight_map(folder), single=True),
        ),
        "two sets of weights",
    ),
    "an adapter beside": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "adapter (adapter_config"),
    "an adapter alone": (
        lambda folder: (
            (folder / SINGLE).rename(folder / "adapter_model.safetensors"),
            (folder / "adapter_config.json").write_text("{}"),
        ),
        "and no model; merge it",
    ),
    "GPTQ": (lambda folder: configured(folder, quantization_config={"quant_method": "gptq"}), "quantised (GPTQ)"),
    "AWQ": (lambda folder: configured(folder, quantization_config={"quant_method": "awq"}), "quantised (AWQ)"),
    "bitsandbytes": (
        lambda folder: configured(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "quantised (bitsandbytes)",
    ),
    "MXFP4": (lambda folder: configured(folder, quantization_config={"quant_method": "mxfp4"}), "quantised (MXFP4)"),
    "another method": (lambda folder: configured(folder, quantization_config={"quant_method": "new"}), "sed (new)"),
    "quantised inside": (
        lambda folder: configured(folder, text_config={"quantization_config": {"quant_method": "fp8"}}),
        "quantised (FP8)",
    ),
    "FP8 that nothing states": (
        lambda folder: rewritten(
            folder, lambda all_: {n: t.to(torch.float8_e4m3fn) if "proj" in n else t for n, t in all_.items()}
        ),
        "quantised (tensor model.layers.0.mlp.down_proj.weight is float8_e4m3fn)",
    ),
}
# What is wrong only for the model that the configuration makes.
TENSORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "_orig_mod.": (
        lambda folder: rewritten(folder, lambda all_: {f"_orig_mod.{name}": one for name, one in all_.items()}),
        "begin with '_orig_mod.'",
    ),
    "module.": (
        lambda folder: rewritten(folder, lambda all_: {f"module.{name}": one for name, one in all_.items()}),
        "begin with 'module.'",
    ),
    "another prefix": (
        lambda folder: rewritten(folder, lambda all_: {f"net.{name}": one for name, one in all_.items()}),
        "lacks 21 tensors (lm_head.weight, model.embed_tokens.weight, ",
    ),
    "no head": (lambda folder: rewritten(folder, without("lm_head.weight")), "lacks 1 tensor (lm_head.weight)"),
    "no layer": (
        lambda folder: rewritten(folder, lambda all_: {n: t for n, t in all_.items() if "layers.1.mlp" not in n}),
        "lacks 3 tensors (model.layers.1.mlp.down_proj.weight, ",
    ),
    "a layer more": (lambda folder: configured(folder, num_hidden_layers=3), "lacks 9 tensors (model.layers.2."),
    "a layer fewer": (lambda folder: configured(folder, num_hidden_layers=1), "holds 9 tensors (model.layers.1."),
    "a head of values": (
        lambda folder: rewritten(folder, lambda all_: {**all_, "v_head.summary.weight": torch.ones(1, 32)}),
        "holds 1 tensor (v_head.summary.weight) that its model does not know",
    ),
    "GPTQ that nothing states": (
        lambda folder: rewritten(
            folder,
            lambda all_: {
                name.replace("weight", "qweight") if "proj" in name else name: one.int() if "proj" in name else one
                for name, one in all_.items()
            },
        ),
        "lacks 14 tensors",
    ),
    "integers": (
        lambda folder: rewritten(folder, lambda all_: {n: t.char() if "proj" in n else t for n, t in all_.items()}),
        "is stored as int8",
    ),
    "another size": (lambda folder: configured(folder, intermediate_size=64), "6 tensors of other shapes"),
    "no causal model": (lambda folder: configured(folder, model_type="clip"), "no causal language model of the type"),
    "heads that do not divide": (lambda folder: configured(folder, hidden_act="no such"), "cannot make a causal"),
}


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


SCRIPTS = {
    "evaluate": "--model {bad} --questions {questions} --output {out}",
    "evaluate, delta": "--model {good} --questions {questions} --delta {bad} --output {out}",
    "probe_mastery": "--model {bad} --facts {facts} --templates {templates} --output {out}",
    "diff_weights": "--base {bad} --tuned {good} --output {out}",
    "diff_weights, tuned": "--base {good} --tuned {bad} --output {out}",
    "measure_changes": "--base {bad} --tuned {good} --histogram {out} --tensors {out}",
    "measure_changes, delta": "--base {good} --delta {bad} --histogram {out} --tensors {out}",
    "select_updates": "--base {good} --tuned {bad} --output {out}",
    "select_updates, delta": "--base {good} --delta {bad} --output {out}",
    "export_model": "--base {bad} --tuned {good} --percent 20 --output {out}",
    "export_model, delta": "--base {good} --delta {bad} --percent 20 --output {out}",
}


@pytest.mark.parametrize("kind", ["no dtype", "offsets overlap", "2^62 elements", "cut short"])
@pytest.mark.parametrize("command", SCRIPTS)
def test_every_script_that_takes_a_model_ends_in_one_line(
    command: str,
    kind: str,
    saved: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (model / SINGLE).write_bytes(FILES[kind])
    bad = model
    if "--delta {bad}" in SCRIPTS[command]:
        bad = tmp_path / "delta"
        about = {"kind": "delta", **diff_weights_facts(saved, tmp_path)}
        with whole_directory(bad, about) as folder:
            (folder / "delta-00001.safetensors").write_bytes(FILES[kind])
    (tmp_path / "questions.jsonl").write_text('{"question": "Where ?", "answers": ["here"]}\n')
    places = {
        "bad": bad,
        "good": saved,
        "questions": tmp_path / "questions.jsonl",
        "facts": tmp_path / "facts.parquet",
        "templates": tmp_path / "templates",
        "out": tmp_path / "out",
    }
    make_facts(tmp_path)
    words = [word.format(**places) for word in SCRIPTS[command].split()]
    name = command.partition(",")[0]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(tmp_path.iterdir())
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            run(import_module(name).main)
    finally:
        signal.signal(signal.SIGTERM, handler)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1 and lines[-1].startswith("error: ") and str(bad) in lines[-1], lines
    assert {path for path in tmp_path.iterdir() if not path.name.startswith(".")} <= before  # nothing is half made


def diff_weights_facts(saved: Path, folder: Path) -> dict[str, Any]:
    """What the manifest of a delta to the tiny model states."""
    (folder / "scratch").mkdir()
    return diff_weights(saved, saved, folder / "scratch")


def make_facts(folder: Path) -> None:
    """Write a table of one fact, and the templates of its topic."""
    from knowshift.facts.schemas import FACTS
    from knowshift.runtime.parquet import write_table

    row = {field.name: "x" for field in FACTS}
    row |= {"topic": "home", "split": "train", "aliases": ["x"], "also_in_test": False}
    write_table(folder / "facts.parquet", pa.Table.from_pylist([row], FACTS), FACTS)
    (folder / "templates").mkdir()
    (folder / "templates/home.yaml").write_text(
        "topic: home\nname: home\nquestion: Where does [X] live ?\ncompletions: "
        + json.dumps([f"{number} [X] lives in" for number in range(20)])
    )
