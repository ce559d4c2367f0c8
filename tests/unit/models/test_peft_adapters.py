"""Adapters that peft trained are merged as peft merges them, in float32, or are refused in one line."""

import json
from pathlib import Path
from typing import Any

import foreign_checkpoints as elsewhere
import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

from knowshift.models.adapters import write_in_form_of_base
from knowshift.models.foreign import Checkpoint
from knowshift.runtime.artefacts import sha256_of, whole_directory
from knowshift.runtime.errors import KnowshiftError

TEXT = torch.tensor([[1, 5, 9, 17, 33, 4]])


def brought(base: Path, tuned: Path, output: Path) -> Path:
    with whole_directory(output, {"kind": "model"}) as directory:
        write_in_form_of_base(base, tuned, directory)
    return output


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TEXT).logits


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "ranks": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 3}},
    "embedding too": {"target_modules": ["embed_tokens", "q_proj"]},
    "saved norm": {"modules_to_save": ["post_attention_layernorm"]},
    "saved embedding": {"modules_to_save": ["embed_tokens"]},
    "saved head": {"modules_to_save": ["lm_head"]},
    "tokens": {"trainable_token_indices": [3, 7]},
    "grown and adapted": {"grown": 3, "target_modules": ["embed_tokens", "q_proj"]},
    "grown": {"grown": 3, "modules_to_save": ["embed_tokens", "lm_head"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_lora_is_merged_as_peft_merges_it(kind: str, tmp_path: Path, tiny_model: Path) -> None:
    folder, expected = elsewhere.adapter(tiny_model, tmp_path / "adapter", **KINDS[kind])
    before = hashes(folder), hashes(tiny_model)
    ours = brought(tiny_model, folder, tmp_path / "ours")
    assert (hashes(folder), hashes(tiny_model)) == before
    assert torch.equal(logits(elsewhere.load(ours)), logits(expected))
    assert not torch.equal(logits(elsewhere.load(ours))[..., :20], logits(elsewhere.load(tiny_model))[..., :20])
    tensors = load_file(ours / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    untouched = load_file(tiny_model / "model.safetensors")["model.layers.1.input_layernorm.weight"]
    assert torch.equal(tensors["model.layers.1.input_layernorm.weight"], untouched)
    checkpoint = Checkpoint(tiny_model, ours)
    assert checkpoint.has_form_of_base and checkpoint.new_tokens == KINDS[kind].get("grown", 0)
    assert (ours / "tokenizer.json").read_bytes() == (tiny_model / "tokenizer.json").read_bytes()


def test_the_same_adapter_gives_the_same_bytes_from_any_folder(tmp_path: Path, tiny_model: Path) -> None:
    folder, _ = elsewhere.adapter(tiny_model, tmp_path / "adapter")
    one = brought(tiny_model, folder, tmp_path / "one")
    elsewhere.copy(tiny_model, tmp_path / "base")
    other = brought(tmp_path / "base", elsewhere.copy(folder, tmp_path / "elsewhere"), tmp_path / "other")
    assert hashes(one) == hashes(other)


def other_names(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    renamed = {name.replace("q_proj", "query"): tensor for name, tensor in tensors.items()}
    save_file(renamed, folder / "adapter_model.safetensors")


def other_sizes(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    cut = {name: tensor[:, :5].contiguous() for name, tensor in tensors.items()}
    save_file(cut, folder / "adapter_model.safetensors")


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def empty(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def odd(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "NO_SUCH"}))


def infinite(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: tensor * torch.inf for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")


REFUSED = {
    "other names": (other_names, "was made for another model"),
    "other sizes": (other_sizes, "does not fit this base model"),
    "pickled": (pickled, r"adapter_model\.bin only.*convert it with: python -c"),
    "empty": (empty, r"but no adapter_model\.safetensors"),
    "odd": (odd, "peft cannot read"),
    "infinite": (infinite, "peft cannot merge"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_adapters_that_cannot_be_merged_are_refused_in_one_line(case: str, tmp_path: Path, tiny_model: Path) -> None:
    folder, _ = elsewhere.adapter(tiny_model, tmp_path / "adapter")
    spoil, message = REFUSED[case]
    spoil(folder)
    with pytest.raises(KnowshiftError, match=message) as caught:
        brought(tiny_model, folder, tmp_path / "ours")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_prompts_that_were_learned_are_no_weights(tmp_path: Path, tiny_model: Path) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    get_peft_model(elsewhere.load(tiny_model), config).save_pretrained(tmp_path / "prompt")
    with pytest.raises(KnowshiftError, match=r"PROMPT_TUNING.*no form as weights"):
        brought(tiny_model, tmp_path / "prompt", tmp_path / "ours")
