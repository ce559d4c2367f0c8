"""Whatever is in a model folder, a manifest, a delta or a table is read or refused in one line; nothing is lost."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from fuzzing import JUNK, damaged, ends_well, fresh_folder, runs_well, spoiled
from knowshift.mastery.schemas import MASTERY
from knowshift.runtime.artefacts import MANIFEST, read_manifest, whole_directory
from knowshift.weights.deltas import Delta, diff_weights
from knowshift.weights.parameter_counts import stored_parameters
from knowshift.weights.safetensors_files import INDEX, WeightFiles, write_safetensors

Fuzz = Callable[..., None]
SHAPES = {"model.layers.0.mlp.up_proj.weight": (4, 6), "model.embed_tokens.weight": (5, 4), "lm_head.weight": (5, 4)}


def write_model(folder: Path, seed: int, name: str = "model.safetensors") -> Path:
    """Write a tiny model of drawn weights."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)

    def values(tensor: str) -> list[np.ndarray]:
        return [draw.normal(size=SHAPES[tensor]).astype(np.float32).view(np.int32)]

    write_safetensors(folder / name, {tensor: ("float32", shape) for tensor, shape in SHAPES.items()}, values)
    (folder / "config.json").write_text('{"model_type": "llama", "tie_word_embeddings": false}')
    return folder


def parts(data: bytes) -> tuple[Any, bytes]:
    """Take a safetensors file apart: its header, and the bytes after it."""
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header: Any, data: bytes) -> bytes:
    """Put a safetensors file together."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def read_all(folder: Path) -> int:
    """Read every tensor of a model folder, and count the parameters."""
    for _, bits in WeightFiles(folder):
        assert bits.size >= 0
    return stored_parameters(folder) or 0


def test_safetensors_files(fuzz: Fuzz, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1)
    good = (write_model(tmp_path / "tuned", 2) / "model.safetensors").read_bytes()
    header, tail = parts(good)

    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            tuned = write_model(folder / "tuned", 2)
            (tuned / "model.safetensors").write_bytes(data)
            count = ends_well(lambda: read_all(tuned))
            assert count is None or count <= sum(5 * 6 for _ in SHAPES)
            arguments = ["--base", str(base), "--tuned", str(tuned), "--output", str(folder / "delta")]
            runs_well("diff_weights", arguments, folder / "delta")

    fuzz(spoiled(header).map(lambda spoilt: joined(spoilt, tail)) | damaged(good), check, 200)


def test_what_says_how_weights_are_stored(fuzz: Fuzz) -> None:
    index = {"metadata": {}, "weight_map": dict.fromkeys(SHAPES, "model-1.safetensors")}
    config = {"model_type": "llama", "tie_word_embeddings": True}
    manifest = {"kind": "model", "no_parameters": ["lm_head.weight"], "files": {}}
    contents = {INDEX: index, "config.json": config, MANIFEST: manifest}

    def check(spoilt: tuple[str, bytes]) -> None:
        with fresh_folder() as folder:
            write_model(folder / "model", 1, "model-1.safetensors")
            for name, content in contents.items():
                (folder / "model" / name).write_text(json.dumps(content))
            (folder / "model" / spoilt[0]).write_bytes(spoilt[1])
            ends_well(lambda: read_all(folder / "model"))

    def contents_of(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
        good = contents[name]
        changed = spoiled(good).map(lambda value: json.dumps(value).encode()) | damaged(json.dumps(good).encode())
        return changed.map(lambda data: (name, data))

    fuzz(st.sampled_from(list(contents)).flatmap(contents_of), check, 200)


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """The delta of two models, `base` and `tuned` beside it."""
    base, tuned = write_model(tmp_path / "base", 1), write_model(tmp_path / "tuned", 2)
    facts: dict = {"kind": "delta"}
    with whole_directory(tmp_path / "delta", facts) as directory:
        facts |= diff_weights(base, tuned, directory)
    return tmp_path / "delta"


def test_manifests(fuzz: Fuzz, delta: Path) -> None:
    good = json.loads((delta / MANIFEST).read_text())

    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            for path in delta.iterdir():
                (folder / path.name).write_bytes(path.read_bytes())
            (folder / MANIFEST).write_bytes(data)
            manifest = ends_well(lambda: read_manifest(folder))
            assert manifest is None or isinstance(manifest["files"], dict)
            opened = ends_well(lambda: Delta(folder, delta.with_name("base")))
            assert opened is None or opened.names() == sorted(SHAPES)

    fuzz(spoiled(good).map(lambda value: json.dumps(value).encode()) | damaged(json.dumps(good).encode()), check, 200)


def test_deltas(fuzz: Fuzz, delta: Path) -> None:
    (path,) = delta.glob("delta-*")
    header, tail = parts(path.read_bytes())
    tensors = json.loads(header["__metadata__"]["tensors"])
    tuned = dict(WeightFiles(delta.with_name("tuned")))

    def described(spoilt: Any) -> bytes:
        changed = {**header, "__metadata__": {**header["__metadata__"], "tensors": json.dumps(spoilt)}}
        return joined(changed, tail)

    def check(data: bytes) -> None:
        """The manifest knows the bytes, so that only what they say can be refused."""
        with fresh_folder() as folder:
            (folder / path.name).write_bytes(data)
            entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            manifest = json.loads((delta / MANIFEST).read_text()) | {"files": {path.name: entry}}
            (folder / MANIFEST).write_text(json.dumps(manifest))
            read = ends_well(lambda: list(Delta(folder, delta.with_name("base"))))
            for name, _, after in read or ():
                assert np.array_equal(after, tuned[name]), "other weights came out of a damaged delta"

    fuzz(spoiled(tensors).map(described) | spoiled(header).map(lambda spoilt: joined(spoilt, tail)), check, 200)


def test_folders_of_others_stay(fuzz: Fuzz) -> None:
    """Whatever a folder's manifest says of it, no writer removes a file that was not written there."""
    good = {"kind": "delta", "files": {"made.txt": {"bytes": 4, "sha256": hashlib.sha256(b"made").hexdigest()}}}

    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            place = folder / "out"
            (place / "mine").mkdir(parents=True)
            for name in ("made.txt", "notes.txt", "mine/more.txt"):
                (place / name).write_text("made")
            (place / MANIFEST).write_bytes(data)

            def write() -> bool:
                with whole_directory(place, {"kind": "delta"}) as directory:
                    (directory / "new.txt").write_text("new")
                return True

            named = data.count(b"notes.txt") and data.count(b"more.txt")
            assert ends_well(write) is None or named
            assert named or all((place / name).read_text() == "made" for name in ("notes.txt", "mine/more.txt"))

    fuzz(spoiled(good).map(lambda value: json.dumps(value).encode()) | damaged(json.dumps(good).encode()), check, 150)


def test_tables_of_a_run(fuzz: Fuzz, tmp_path: Path) -> None:
    row = {
        **dict.fromkeys(("fact_id", "topic", "subject", "object", "question"), "x"),
        "domain": "in_domain",
        "split": "train",
        "aliases": [],
        "also_in_test": False,
        "mastery": 0.5,
        "level": 2,
        "draw_level": 2,
        "half_mastery": [0.5, 0.5],
        "half_levels": [2, 2],
        "successes": [1],
        "first_position": [0],
    }
    rows = [{**row, "fact_id": str(number), "question": str(number)} for number in range(20)]
    pq.write_table(pa.Table.from_pylist(rows, schema=MASTERY), tmp_path / "mastery.parquet", compression="none")

    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            (folder / "mastery.parquet").write_bytes(data)
            files = ["--mastery", str(folder / "mastery.parquet"), "--output", str(folder / "out.parquet")]
            runs_well("draw_order", [*files, "--data", "mixed", "--draw", "s1"], folder / "out.parquet")

    def other(columns: Any) -> bytes:
        if not isinstance(columns, dict):
            return b""
        try:
            pq.write_table(pa.Table.from_pylist([columns]), tmp_path / "other.parquet")
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return b""
        return (tmp_path / "other.parquet").read_bytes()

    fuzz(damaged((tmp_path / "mastery.parquet").read_bytes()) | spoiled(row, JUNK).map(other), check, 150)
