"""Deltas and restored models: lossless, checked, and the same weights by whatever way."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import knowshift.weights.deltas
import knowshift.weights.versions
from knowshift.models.loading import load_model
from knowshift.models.tuned import load_tuned
from knowshift.restoration.concentration import count_of
from knowshift.restoration.in_memory import RestoredModels
from knowshift.restoration.strategies import undo
from knowshift.runtime.artefacts import read_manifest, whole_directory
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.deltas import Delta, diff_weights, open_versions
from knowshift.weights.regions import in_region
from knowshift.weights.safetensors_files import WeightFiles
from knowshift.weights.torch_bits import as_tensor, bits_of
from knowshift.weights.versions import versions_in_directories
from made_up_weights import NAMES, held, plain_masks, triples


def write_model(directory: Path, tensors: Iterable[tuple[str, torch.Tensor]], shards: int = 1) -> Path:
    directory.mkdir()
    items = list(tensors)
    if shards == 1:
        save_file(dict(items), directory / "model.safetensors")
        return directory
    placed = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file(dict(items[number::shards]), directory / file)
        placed |= dict.fromkeys((name for name, _ in items[number::shards]), file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    return directory


def make_delta(base: Path, tuned: Path, output: Path) -> Path:
    facts: dict = {}
    with whole_directory(output, facts) as directory:
        facts |= diff_weights(base, tuned, directory, threads=2)
    return output


@pytest.mark.parametrize("shards", [(1, 1), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_base_and_delta_give_the_tuned_weights(tmp_path: Path, shards: tuple[int, int], dtype: torch.dtype) -> None:
    every = triples(dtype=dtype)
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every), shards[0])
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every), shards[1])
    delta = make_delta(base, tuned, tmp_path / "delta")
    back = list(Delta(delta, base))
    assert [name for name, _, _ in back] == sorted(NAMES)
    assert all(np.array_equal(a, bits_of(b)) for (_, _, a), (_, _, b) in zip(back, every, strict=True))
    assert len(list(delta.glob("delta-*"))) == shards[1]
    other = write_model(tmp_path / "other", ((n, t) for n, _, t in every))
    with pytest.raises(KnowshiftError, match="other weights"):
        Delta(delta, other)


def test_models_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    every = triples()
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every))
    fewer = write_model(tmp_path / "fewer", ((n, t) for n, _, t in every[1:]))
    with pytest.raises(KnowshiftError, match=every[0][0]):
        make_delta(base, fewer, tmp_path / "d1")
    wider = write_model(tmp_path / "wider", ((n, t if i else t[:5].clone()) for i, (n, _, t) in enumerate(every)))
    with pytest.raises(KnowshiftError, match=r"\[17, 23\].*\[5, 23\]"):
        make_delta(base, wider, tmp_path / "d2")
    broken = write_model(tmp_path / "broken", ((n, t if i else t * torch.nan) for i, (n, _, t) in enumerate(every)))
    for number, (sides, when) in enumerate({(base, broken): "after", (broken, base): "before"}.items()):
        with pytest.raises(KnowshiftError, match=f"{every[0][0]} has values {when} training that are not finite"):
            make_delta(*sides, tmp_path / f"d3{number}")
    embedding = [(n, t[:5].clone() if "embed" in n else t) for n, _, t in every]
    with pytest.raises(KnowshiftError, match=r"embed_tokens.*the vocabulary shrank"):
        versions_in_directories(base, write_model(tmp_path / "resized", embedding))
    assert not list(tmp_path.glob("*d[123]*"))


def test_tied_embeddings_count_once(tmp_path: Path) -> None:
    every = triples()
    head = [("lm_head.weight", base, tuned) for name, base, tuned in every if "embed" in name]
    base = write_model(tmp_path / "base", ((n, b.clone()) for n, b, _ in every + head))
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every))
    with pytest.raises(KnowshiftError, match=r"only .*base has the tensor lm_head"):
        versions_in_directories(base, tuned)
    (base / "config.json").write_text('{"tie_word_embeddings": true}')
    assert list(versions_in_directories(base, tuned).within("embedding").shapes) == ["model.embed_tokens.weight"]


@pytest.mark.parametrize(
    "dtypes", [(torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)]
)
def test_directories_and_deltas_give_the_same_versions(tmp_path: Path, dtypes, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((knowshift.weights.versions, "PIECE"), (knowshift.weights.deltas, "CHUNK")):
        monkeypatch.setattr(module, name, 100)
    every = triples()
    base = write_model(tmp_path / "base", ((n, b.to(dtypes[0])) for n, b, _ in every), 2)
    tuned = write_model(tmp_path / "tuned", ((n, t.to(dtypes[1])) for n, _, t in every), 3)
    delta = make_delta(base, tuned, tmp_path / "delta")
    expected = held([(n, b.to(dtypes[0]).to(dtypes[1]), t.to(dtypes[1])) for n, b, t in every])
    for versions in (open_versions(base, tuned=tuned), open_versions(base, delta=delta)):
        assert versions.shapes == expected.shapes and versions.dtypes == expected.dtypes
        assert undo(versions, "top", "all", [10, 50], threads=2) == undo(expected, "top", "all", [10, 50])


def test_selecting_loads_no_torch(tmp_path: Path) -> None:
    every = triples(dtype=torch.bfloat16)
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every))
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every))
    script = Path(__file__).parents[3] / "scripts/select_updates.py"
    command = ["--base", base, "--tuned", tuned, "--output", tmp_path / "selections.parquet"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", script, *command], check=True, capture_output=True, text=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "numpy" in loaded and "torch" not in loaded


@pytest.mark.parametrize("shards", [1, 2])
def test_exports_are_the_restored_model_in_the_shards_of_the_base(tmp_path: Path, shards: int) -> None:
    every = triples(dtype=torch.bfloat16)
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every), shards)
    (base / "config.json").write_text('{"dtype": "float32"}')
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every), 3)
    command = ["--base", base, "--tuned", tuned, "--percent", "20", "--output", tmp_path / "restored"]
    script = Path(__file__).parents[3] / "scripts/export_model.py"
    subprocess.run([sys.executable, script, *command], check=True, capture_output=True)
    members = [triple for triple in every if in_region(triple[0], "transformer")]
    masks = dict(zip((n for n, _, _ in members), plain_masks(members, "top", 20), strict=True))
    restored = WeightFiles(tmp_path / "restored")
    assert restored.shards() == WeightFiles(base).shards()
    for name, before, after in every:
        expected = torch.where(masks[name], before, after) if name in masks else after
        assert np.array_equal(restored.read(name), bits_of(expected))
    selection = json.loads((tmp_path / "restored/selection.json").read_text())
    assert selection["n"] == 3 * 17 * 23 and selection["k_count"] == count_of(3 * 17 * 23, 20)
    assert selection["restored_per_tensor"] == {name: int(mask.sum()) for name, mask in masks.items()}
    card = (tmp_path / "restored/README.md").read_text()
    assert "`transformer`" in card and "/tuned`, whose base is `base`" in card and "base_model" not in card
    assert json.loads((base / "config.json").read_text())["dtype"] == "float32"
    assert not (tmp_path / "restored/config.json").exists()  # taken from the tuned model, which has none


@pytest.mark.slow
def test_the_benchmarks_reference_restores_as_many_of_each_tensor(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    draw = torch.Generator().manual_seed(2)
    tuned = Path(shutil.copytree(tiny_model, tmp_path / "tuned"))
    moved = {name: value + 1e-3 * torch.randn(value.shape, generator=draw) for name, value in weights.items()}
    save_file(moved, tuned / "model.safetensors", {"format": "pt"})
    script = Path(__file__).parents[3] / "benchmarks/restoring_in_memory.py"
    command = [sys.executable, script, "--base", tiny_model, "--tuned", tuned, "--percent", "20"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (selection,) = undo(versions_in_directories(tiny_model, tuned), "top", "transformer", [20])
    rows = selection.tensors.to_pylist()
    assert {row["tensor"]: row["restored"] for row in rows} == {
        name: int(count) for name, count in map(str.split, said.splitlines())
    }


def test_tensors_of_several_types_keep_their_own(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    moved = {
        name: (value * 1.01).to(torch.float32 if "norm" in name else torch.bfloat16) for name, value in weights.items()
    }
    tuned = write_model(tmp_path / "tuned", moved.items())
    delta = make_delta(tiny_model, tuned, tmp_path / "delta")
    back = {name: as_tensor(bits, Delta(delta, tiny_model).dtypes[name]) for name, _, bits in Delta(delta, tiny_model)}
    assert all(torch.equal(back[name], value) for name, value in moved.items())
    model = load_tuned(tiny_model, delta, "float32", "cpu")
    bfloat16 = {name: value.bfloat16().float() for name, value in moved.items()}  # as the model is computed
    assert all(torch.equal(parameter, bfloat16[name]) for name, parameter in model.named_parameters())
    models = RestoredModels(tiny_model, delta)
    models.undo("top", "all", [50])
    models.make(50, "float32", "cpu", last=True)


def test_a_base_of_which_a_bit_flipped_is_noticed(tmp_path: Path) -> None:
    every = triples()
    with whole_directory(tmp_path / "base", {}) as folder:
        save_file({name: before for name, before, _ in every}, folder / "model.safetensors")
    base = tmp_path / "base"
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every))
    delta = make_delta(base, tuned, tmp_path / "delta")
    open_versions(base, delta=delta)
    whole = bytearray((base / "model.safetensors").read_bytes())
    whole[-1] ^= 1
    (base / "model.safetensors").write_bytes(whole)
    for how in ({"delta": delta}, {"tuned": tuned}):
        with pytest.raises(KnowshiftError, match=r"model\.safetensors is damaged.*snakemake --force"):
            open_versions(base, **how)
    with pytest.raises(KnowshiftError, match=rf"tensor {every[-1][0]} in .*delta-00001.*damaged"):
        list(Delta(delta, base))


def test_a_damaged_delta_is_noticed_and_the_remedy_named(tmp_path: Path) -> None:
    every = triples()
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every))
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every))
    delta = make_delta(base, tuned, tmp_path / "delta")
    (file,) = delta.glob("delta-*")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(KnowshiftError, match="snakemake --force"):
        Delta(delta, base)
    file.unlink()
    with pytest.raises(KnowshiftError, match="missing"):
        read_manifest(delta)


def test_deltas_of_two_runs_that_were_exchanged_are_noticed(tmp_path: Path) -> None:
    every, runs = triples(), [tmp_path / "one", tmp_path / "two"]
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every))
    for number, run in enumerate(runs):
        run.mkdir()
        tuned = write_model(run / "tuned", ((n, t + number) for n, _, t in every))
        delta = make_delta(base, tuned, run / "delta")
        shutil.copyfile(delta / "manifest.json", run / "delta.json")
        Delta(delta, base)
    (runs[0] / "delta").rename(tmp_path / "other")
    (runs[1] / "delta").rename(runs[0] / "delta")
    (tmp_path / "other").rename(runs[1] / "delta")
    for run in runs:
        with pytest.raises(KnowshiftError, match="another delta"):
            Delta(run / "delta", base)


def test_restored_models_in_memory(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    draw = torch.Generator().manual_seed(1)
    tuned = write_model(
        tmp_path / "tuned",
        ((n, t + 1e-3 * torch.randn(t.shape, generator=draw)) for n, t in sorted(weights.items())),
    )
    delta = make_delta(tiny_model, tuned, tmp_path / "delta")
    expected = load_file(tuned / "model.safetensors")
    model = load_tuned(tiny_model, delta, "float32", "cpu")
    assert all(torch.equal(parameter, expected[name]) for name, parameter in model.named_parameters())
    models = RestoredModels(tiny_model, delta)
    models.undo("top", "all", [100])
    whole, selection = models.make(100, "float32", "cpu", last=True), models.undoings[100].tensors
    assert all(torch.equal(parameter, weights[name]) for name, parameter in whole.named_parameters())
    assert sum(selection["restored"].to_pylist()) == sum(t.numel() for t in weights.values())  # tied ones count once
    ids = torch.tensor([[1, 5, 9]])
    base = load_model(tiny_model, "float32")
    with torch.no_grad():
        assert torch.equal(whole(ids).logits, base(ids).logits)
