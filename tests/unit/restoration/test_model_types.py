"""Every type of model through deltas, restoration and export: the exported model is the one that was evaluated."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from architectures import MODEL_TYPES, make
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from knowshift.finetuning.checkpoint import Checkpoint
from knowshift.models.loading import load_model
from knowshift.models.tuned import load_tuned
from knowshift.restoration.export import export_restored
from knowshift.restoration.in_memory import RestoredModels
from knowshift.restoration.selection import select
from knowshift.weights.deltas import Delta, diff_weights
from knowshift.weights.safetensors_files import WeightFiles

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
    restored = RestoredModels(base, delta, "top", "all", [0, 20], seed=1)
    for percent in (0, 20):
        (selection,) = select(versions, "top", "all", [percent], 1)
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


def save(model_type: str, folder: Path) -> PreTrainedModel:
    model = make(model_type)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "model_type", [pytest.param(kind, marks=[] if kind in STORED else pytest.mark.slow) for kind in MODEL_TYPES]
)
def test_the_exported_model_is_the_one_that_was_evaluated(model_type: str, tmp_path: Path) -> None:
    save(model_type, tmp_path / "base")
    check(tmp_path / "base", tmp_path)
