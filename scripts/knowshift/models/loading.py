"""Loading of models and tokenizers: weights from safetensors only, own code of a model only where it is trusted."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from knowshift.allowed_values import Attention
from knowshift.models.admission import check_admission, check_loaded, one_line, silent_loading
from knowshift.models.tokenizing import ROWS
from knowshift.runtime.artefacts import manifest_of
from knowshift.runtime.errors import KnowshiftError, first_line, shown
from knowshift.runtime.scarcity import lack_of
from knowshift.weights.model_folder import read_config, weight_set
from knowshift.weights.safetensors_files import WeightFiles

_trusted: set[Path] = set()  # model directories whose own code may run in this process
FEWEST_TOKENS = 3  # of a tokenizer that knows any text
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _check_files(directory: Path) -> None:
    """Check that a model directory has a configuration and one set of weights, which can be compared."""
    if not (directory / "config.json").is_file():
        raise KnowshiftError(f"{directory} is no model: it needs config.json and weights in *.safetensors")
    weight_set(directory)


def check_model(directory: Path) -> None:
    """Check that a model directory is complete, and its files against the hashes of its manifest where it has one.

    One without a manifest did not come through `resolve_model.py`, so it is checked as there.

    Raises:
        KnowshiftError: the directory has no configuration or no safetensors weights, a file is damaged, or the tensors
            are not those of the model, see `admission`.
    """
    _check_files(directory)
    if manifest_of(directory) is None:
        check_admission(directory)


def trust_code_of(directory: Path) -> None:
    """Let the Python code that comes with a model run in this process, because the user said so."""
    _trusted.add(directory.resolve())


def loading_options(directory: Path) -> dict[str, bool]:
    """Give the keyword arguments of `from_pretrained` for a model directory.

    Nothing is fetched from the network. The model's own code runs only after `trust_code_of`; a manifest in the
    directory cannot grant it, because whoever made the directory may have written the manifest too.

    Raises:
        KnowshiftError: the model needs code of its own that is not trusted.
    """
    trusted = directory.resolve() in _trusted
    check_code(directory, trusted)
    return {"local_files_only": True, "trust_remote_code": trusted}


def attention_of(config: PreTrainedConfig) -> str | None:
    """Name the attention that a model of this configuration is loaded with: sdpa, or eager where it has no sdpa.

    A model with code of its own is loaded with what transformers takes for it (None).
    """
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return None if kind is None else "sdpa" if kind._supports_sdpa else "eager"


def check_code(directory: Path, trusted: bool) -> None:
    """Check that a model runs without code of its own, or that its code is trusted.

    Args:
        directory: model directory.
        trusted: whether the user trusts the model's code.

    Raises:
        KnowshiftError: the model needs code of its own that is not trusted.
    """
    if not (directory / "config.json").is_file():
        return  # a tokenizer alone; whoever loads a model says that it is none
    config = read_config(directory)
    if "auto_map" in config and str(config.get("model_type")) not in CONFIG_MAPPING and not trusted:
        raise KnowshiftError(
            f"this model ({config.get('model_type')}) runs Python code of its own repository; read that code, then set"
            " models.*.trust_remote_code: true (--trust-remote-code true for a script) to allow it"
        )


def load_model(
    directory: Path, dtype: str, device: torch.device | str = "cpu", settings: Path | None = None
) -> PreTrainedModel:
    """Load a causal language model in evaluation mode.

    Args:
        directory: model directory, with weights in safetensors.
        dtype: a key of `DTYPES`, the type of the parameters.
        device: where the parameters go.
        settings: directory of a later version of the model, by whose configuration it computes instead of its own;
            the size of the vocabulary, and whether the output head is tied, stay its own.

    Raises:
        KnowshiftError: the files are damaged or are not those of one model, or tensors are missing or left over.
    """
    _check_files(directory)
    options: dict[str, Any] = {**loading_options(directory)}
    weights = WeightFiles(directory)
    with one_line(directory), silent_loading():
        config = AutoConfig.from_pretrained(directory, **options)
        attention = attention_of(config)
        if settings is not None:
            options |= {"config": _settings_of(settings, config)}
        kind: Any = AutoModelForCausalLM  # the stubs of transformers know no loading information
        model, found = kind.from_pretrained(
            directory,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            attn_implementation=attention,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    check_loaded(directory, found, weights.no_parameters)
    return model.to(device).eval()


def use_attention(model: PreTrainedModel, attention: Attention) -> None:
    """Let a loaded model compute with the attention that the user chose; auto leaves it as it was loaded.

    Raises:
        KnowshiftError: its type has no such attention.
    """
    if attention == "auto":
        return
    if attention == "sdpa" and not model._supports_sdpa:
        raise KnowshiftError(
            f"models.*.attention is sdpa, and {type(model).__name__} has none in transformers; set attention: eager"
        )
    model.set_attn_implementation(attention)


def _settings_of(directory: Path, own: PreTrainedConfig) -> PreTrainedConfig:
    """Load the configuration of a later version of a model, with the vocabulary and the ties of the model itself."""
    config = AutoConfig.from_pretrained(directory, **loading_options(directory))
    for later, former in ((config, own), (config.get_text_config(), own.get_text_config())):
        for name in ("vocab_size", "tie_word_embeddings"):
            if hasattr(former, name):
                setattr(later, name, getattr(former, name))
    return config


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model directory; it knows how many rows its model's embedding has.

    Raises:
        KnowshiftError: transformers cannot load it, or it makes nothing of a plain text.
    """
    options = loading_options(directory)
    remedy = "bring the tokenizer's files (tokenizer.json, tokenizer_config.json) into the folder"
    try:
        with silent_loading():
            tokenizer = AutoTokenizer.from_pretrained(directory, **options)
        plain = tokenizer("a")["input_ids"]
    except Exception as error:  # a tokenizer's files may make anything be raised
        if lack_of(error):
            raise
        raise KnowshiftError(
            f"transformers cannot load the tokenizer of {directory}: {first_line(error)}; {remedy}"
        ) from None
    if not plain or len(tokenizer) < FEWEST_TOKENS:  # where files are missing, transformers may make an empty one
        raise KnowshiftError(f"the tokenizer of {directory} knows no text; {remedy}")
    config = read_config(directory) if (directory / "config.json").is_file() else {}
    parts = [config.get("text_config"), config]  # models with other senses keep the sizes of their text model apart
    rows = next((part["vocab_size"] for part in parts if isinstance(part, dict) and "vocab_size" in part), None)
    setattr(tokenizer, ROWS, rows if isinstance(rows, int) else None)
    return tokenizer


def end_ids(directory: Path, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Collect the token ids that end a text.

    They are the end tokens that the model directory declares (in generation_config.json, else in config.json) and the
    tokenizer's own.

    Raises:
        KnowshiftError: what the directory declares is no list of token ids, or cannot be read.
    """
    options = loading_options(directory)
    with one_line(directory, "the end tokens"):
        if (directory / "generation_config.json").is_file():
            declared = GenerationConfig.from_pretrained(directory, local_files_only=True).eos_token_id
        else:
            declared = AutoConfig.from_pretrained(directory, **options).eos_token_id
    ids = [*(declared if isinstance(declared, list) else [declared]), tokenizer.eos_token_id]
    given = [i for i in ids if i is not None]
    if strange := [i for i in given if not isinstance(i, int) or isinstance(i, bool)]:
        raise KnowshiftError(f"{directory} states the end token {shown(strange[0])}, which is no token id; correct it")
    return frozenset(given)
