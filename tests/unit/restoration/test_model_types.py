"""Every type of model through deltas, restoration and export: the exported model is the one that was evaluated."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from architectures import MODEL_TYPES, VOCABULARY, make, make_with_pictures
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from knowshift.finetuning.checkpoint import Checkpoint
from knowshift.models.loading import load_model
from knowshift.models.tuned import load_tuned
from knowshift.restoration.export import export_restored
from knowshift.restoration.in_memory import RestoredModels
from knowshift.restoration.strategies import undo
from knowshift.weights.deltas import Delta, diff_weights
from knowshift.weights.regions import names_in_region
from knowshift.weights.safetensors_files import WeightFiles
from knowshift.weights.stored_places import stored_views

# One of each way to store a model: as it is in memory, tied, renamed, in Conv1D layers, experts one by one, ...
STORED = ["llama", "gpt2", "gpt_neox", "opt", "mixtral", "qwen3_moe", "granitemoe", "jamba", "gemma2"]
IDS = torch.tensor([[1, 5, 9, 40, 33, 7, 80, 12]])


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    tensors = {name: tensor.contiguous().clone() for name, tensor in change(stored(folder)).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def move(model: PreTrainedModel) -> None:
    """Change all parameters a little, as a training does."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))


def check(base: Path, work: Path) -> None:
    """Train, compare, restore and export; whatever way a model takes, it is the same one."""
    tuned, delta = work / "tuned", work / "delta"
    tuned.mkdir()
    delta.mkdir()
    model = load_model(base, "float32")
    untouched = logits(model)
    move(model)
    expected = logits(model)
    assert not torch.equal(untouched, expected)
    Checkpoint(model, base).save(tuned)
    facts = diff_weights(base, tuned, delta)
    (delta / "manifest.json").write_text(json.dumps({"files": {}, "kind": "delta", **facts}))

    asked = load_tuned(base, delta, "float32", "cpu")
    theirs = dict(asked.named_parameters(remove_duplicate=False))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        assert torch.equal(parameter, theirs[name]), name
    assert torch.equal(logits(load_model(tuned, "float32")), expected)

    versions = Delta(delta, base).versions()
    restored = RestoredModels(base, delta)
    restored.undo("top", "all", [0, 20], seed=1)
    for percent in (0, 20):
        (selection,) = undo(versions, "top", "all", [percent], 1)
        export = work / f"export-{percent}"
        export.mkdir()
        about = {"strategy": "top", "region": "all", "percent": percent, "seed": 1}
        export_restored(export, base, base, versions, selection, {"name": "x", "after": "y", **about})
        exported = AutoModelForCausalLM.from_pretrained(export).eval()
        evaluated = restored.make(percent, "float32", "cpu")
        assert torch.equal(logits(exported), logits(evaluated))
        assert torch.equal(logits(exported), expected) == (percent == 0)
        assert stored(export).keys() == WeightFiles(base).tensors.keys() <= stored(base).keys()
        assert exported.num_parameters() == model.num_parameters()


def save(model_type: str, folder: Path, **sizes: object) -> None:
    make(model_type, **sizes).save_pretrained(folder)


@pytest.mark.parametrize(
    "model_type", [pytest.param(kind, marks=[] if kind in STORED else pytest.mark.slow) for kind in MODEL_TYPES]
)
def test_the_exported_model_is_the_one_that_was_evaluated(model_type: str, tmp_path: Path) -> None:
    save(model_type, tmp_path / "base")
    check(tmp_path / "base", tmp_path)


@pytest.mark.parametrize(
    ("model_type", "embedding"),
    [
        ("llama", "model.embed_tokens.weight"),
        ("gpt2", "transformer.wte.weight"),
        ("opt", "model.decoder.embed_tokens.weight"),
        ("gemma2", "model.embed_tokens.weight"),
        ("bloom", "transformer.word_embeddings.weight"),
    ],
)
def test_a_tied_head_that_the_file_repeats_is_no_parameter(model_type: str, embedding: str, tmp_path: Path) -> None:
    """Its copy from before training, written back, would untie the exported model."""
    base = tmp_path / "base"
    save(model_type, base, tie_word_embeddings=True)
    rewrite(base, lambda tensors: {**tensors, "lm_head.weight": tensors[embedding]})
    if model_type != "llama":  # tied because the class says so, not because the file does
        config = json.loads((base / "config.json").read_text())
        config.pop("tie_word_embeddings", None)
        (base / "config.json").write_text(json.dumps(config))
    assert "lm_head.weight" in stored(base) and "lm_head.weight" not in WeightFiles(base).tensors
    check(base, tmp_path)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "opt"])
def test_a_head_with_values_of_its_own_is_a_parameter_whatever_the_configuration_says(
    model_type: str, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    save(model_type, base, tie_word_embeddings=True)
    head = 0.2 * torch.randn(VOCABULARY, 32, generator=torch.Generator().manual_seed(3))
    rewrite(base, lambda tensors: {**tensors, "lm_head.weight": head})
    assert WeightFiles(base).untied and "lm_head.weight" in WeightFiles(base).tensors
    check(base, tmp_path)
    assert json.loads((tmp_path / "export-0/config.json").read_text())["tie_word_embeddings"] is False


def test_two_heads_that_happen_to_be_equal_stay_two_where_nothing_ties_them(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save("llama", base, tie_word_embeddings=False)
    rewrite(base, lambda tensors: {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]})
    assert "lm_head.weight" in WeightFiles(base).tensors
    check(base, tmp_path)


def test_names_without_the_prefix_of_the_base_model(tmp_path: Path) -> None:
    """GPT-2 as it lies on the hub, with its masks; deltas and exports keep the file's names."""
    base = tmp_path / "base"
    save("gpt2", base)
    mask = {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64) for layer in range(2)}
    rewrite(base, lambda tensors: {n.removeprefix("transformer."): t for n, t in tensors.items()} | mask)
    check(base, tmp_path)
    assert "h.0.attn.c_attn.weight" in stored(tmp_path / "export-20")


def test_a_model_with_an_encoder_of_pictures(tmp_path: Path) -> None:
    """Gemma 3 from 4B on: the encoder stays as it is, and is in no region of the text model."""
    base = tmp_path / "base"
    make_with_pictures().save_pretrained(base)
    names = WeightFiles(base).names()
    assert any(name.startswith("vision_tower.") for name in names)
    assert all("language_model" in name for name in names_in_region(names, "transformer"))
    check(base, tmp_path)


def test_experts_are_stored_one_by_one_and_restored_one_by_one(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save("mixtral", base)
    names = [name for name in WeightFiles(base).names() if "experts" in name]
    assert len(names) == 2 * 4 * 3
    model = load_model(base, "float32")
    views = stored_views(model, names)
    for name in names:
        assert torch.equal(views[name], stored(base)[name])
    with torch.no_grad():
        views[names[0]].zero_()
    assert sum(int((parameter == 0).sum()) for parameter in model.parameters()) == views[names[0]].numel()
