"""Tiny models fine-tuned elsewhere: as transformers and peft save them, and as other programs rename them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel


def load(folder: Path) -> PreTrainedModel:
    """Load a model in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def save(model: PreTrainedModel, base: Path, folder: Path) -> Path:
    """Save a model, with the tokenizer of its base if that has one."""
    model.save_pretrained(folder)
    if (base / "tokenizer.json").is_file():
        AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def nudge(model: torch.nn.Module, seed: int = 1) -> None:
    """Change every parameter that is trained a little, as training would."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))


def tune(base: Path, folder: Path, change: Callable[[PreTrainedModel], object] | None = None) -> Path:
    """Fine-tune a model, after `change` was done to it, and save it."""
    model = load(base)
    if change:
        change(model)
    nudge(model)
    return save(model, base, folder)


def grow(model: PreTrainedModel, tokens: int = 3) -> None:
    """Add rows for new tokens."""
    torch.manual_seed(5)
    model.resize_token_embeddings(model.get_input_embeddings().weight.shape[0] + tokens, mean_resizing=False)


def untie(model: PreTrainedModel) -> None:
    """Give a model an output head of its own."""
    model.config.tie_word_embeddings = False
    model.get_output_embeddings().weight = torch.nn.Parameter(model.get_input_embeddings().weight.detach().clone())


def rename(folder: Path, new_name: Callable[[str], str], more: dict[str, torch.Tensor] | None = None) -> Path:
    """Rename the tensors of a saved model, and add others."""
    tensors = {new_name(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file({**tensors, **(more or {})}, folder / "model.safetensors", {"format": "pt"})
    return folder


def configure(folder: Path, **settings: object) -> Path:
    """Change settings in the configuration of a saved model."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


def adapter(base: Path, folder: Path, grown: int = 0, **settings: object) -> tuple[Path, PreTrainedModel]:
    """Train an adapter with peft and save it.

    Returns:
        Its folder, and the model that peft itself makes of base and adapter.
    """
    model = load(base)
    if grown:
        grow(model, grown)
    config = LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "target_modules": "all-linear", **settings})
    tuner = get_peft_model(model, config)
    nudge(tuner)
    tuner.save_pretrained(folder)
    again = load(base)
    if grown:
        grow(again, grown)
    return folder, PeftModel.from_pretrained(again, folder).merge_and_unload()


def copy(folder: Path, output: Path) -> Path:
    """Copy a folder."""
    return Path(shutil.copytree(folder, output))
