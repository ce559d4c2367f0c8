"""Loading models: weights as safetensors only, code of the model's repository only where its manifest trusts it."""

from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from knowshift.runtime.artefacts import manifest_of
from knowshift.runtime.errors import KnowshiftError

TRUSTED = "trust_remote_code"  # key of a model's manifest
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _check_files(directory: Path) -> None:
    if not (directory / "config.json").is_file() or not any(directory.glob("*.safetensors")):
        raise KnowshiftError(f"{directory} is no model: it needs config.json and weights in *.safetensors")


def check_model(directory: Path) -> None:
    """See that a model directory is whole: every file against the manifest, where there is one.

    Raises:
        KnowshiftError: the directory has no configuration or no safetensors weights, or a file is damaged.
    """
    _check_files(directory)
    manifest_of(directory)


def local(directory: Path) -> dict[str, bool]:
    """How everything of a model directory is loaded: without the network, its own code only where that is trusted."""
    trusted = (manifest_of(directory, verify=False) or {}).get(TRUSTED, False)
    return {"local_files_only": True, "trust_remote_code": trusted}


def load_model(directory: Path, dtype: str, device: torch.device | str = "cpu") -> PreTrainedModel:
    """A causal language model in evaluation mode, from a directory of safetensors.

    Raises:
        KnowshiftError: see `check_model`.
    """
    _check_files(directory)
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=DTYPES[dtype], use_safetensors=True, attn_implementation="sdpa", **local(directory)
    )
    return model.to(device).eval()


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory."""
    return AutoTokenizer.from_pretrained(directory, **local(directory))


def end_ids(directory: Path, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """All token ids that end a text, by the generation settings of a model directory and its tokenizer."""
    if (directory / "generation_config.json").is_file():
        declared = GenerationConfig.from_pretrained(directory, local_files_only=True).eos_token_id
    else:
        declared = AutoConfig.from_pretrained(directory, **local(directory)).eos_token_id
    ids = declared if isinstance(declared, list) else [declared]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)
