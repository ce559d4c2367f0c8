"""Adapters on every kind of layer: the merged weights are the model that was trained."""

from pathlib import Path

import pytest
import torch
from architectures import make
from peft.tuners.lora import LoraLayer

from knowshift.configuration.finetuning import LoraSettings
from knowshift.finetuning.checkpoint import Checkpoint
from knowshift.finetuning.lora import add_adapters, initialise_adapters
from knowshift.models.loading import load_model
from knowshift.runtime.errors import KnowshiftError

IDS = torch.tensor([[1, 5, 9, 40, 33, 7, 80, 12]])
KINDS = [
    ("llama", ["q_proj", "down_proj"]),
    ("llama", "all-linear"),
    ("llama", ["lm_head"]),
    ("llama", ["embed_tokens"]),
    ("llama", ["embed_tokens", "lm_head", "v_proj"]),
    ("gpt2", "all-linear"),  # Conv1D: the weight lies transposed
    ("gpt2", ["attn.c_proj"]),  # a square one, where nothing else would tell
    ("gpt2", ["wpe"]),
    ("gpt_neox", "all-linear"),
    ("opt", "all-linear"),
    ("mixtral", ["q_proj", "o_proj"]),
    ("mamba", ["in_proj"]),
]


@pytest.mark.parametrize(("model_type", "targets"), KINDS)
def test_the_merged_model_says_what_the_adapted_one_says(
    model_type: str, targets: list[str] | str, tmp_path: Path
) -> None:
    base, merged = tmp_path / "base", tmp_path / "merged"
    make(model_type).save_pretrained(base)
    merged.mkdir()
    model = load_model(base, "float32")
    with torch.no_grad():
        before = model(IDS).logits
    add_adapters(model, LoraSettings(rank=4, alpha=8, dropout=0.0, targets=targets))
    initialise_adapters(model, 1)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        untrained = model(IDS).logits
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
        adapted = model(IDS).logits
    torch.testing.assert_close(untrained, before)  # the second factor starts at zero
    assert not torch.allclose(adapted, before, atol=0.1)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    expected = {
        f"{name}.weight": layer.get_base_layer().weight + layer.get_delta_weight("default")  # pyright: ignore
        for name, layer in layers.items()
    }
    Checkpoint(model, base).save(merged)
    again = load_model(merged, "float32")
    with torch.no_grad():
        torch.testing.assert_close(again(IDS).logits, adapted, rtol=1e-3, atol=1e-3)
    for name, weight in expected.items():
        assert torch.equal(again.get_parameter(name), weight.detach())
    base_parameters = dict(load_model(base, "float32").named_parameters())
    changed = {
        name for name, parameter in again.named_parameters() if not torch.equal(parameter, base_parameters[name])
    }
    assert changed == expected.keys()


@pytest.mark.parametrize(
    ("model_type", "target", "said"),
    [("gpt2", "lm_head", "lm_head"), ("gpt2", "wte", r"transformer\.wte"), ("gemma", "embed_tokens", "embed_tokens")],
)
def test_an_adapter_that_would_untie_layers_is_refused(model_type: str, target: str, said: str, tmp_path: Path) -> None:
    make(model_type).save_pretrained(tmp_path)
    model = load_model(tmp_path, "float32")
    with pytest.raises(KnowshiftError, match=rf"finetuning\.lora\.targets: .*{said}.* shares its weight") as caught:
        add_adapters(model, LoraSettings(rank=4, alpha=8, dropout=0.0, targets=[target]))
    assert "\n" not in str(caught.value)


def test_adapters_of_experts_are_refused(tmp_path: Path) -> None:
    make("mixtral").save_pretrained(tmp_path)
    model = load_model(tmp_path, "float32")
    with pytest.raises(KnowshiftError, match="the weights of several experts"):
        add_adapters(model, LoraSettings(rank=4, alpha=8, dropout=0.0, targets="all-linear"))
