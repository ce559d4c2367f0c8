"""PEFT adapters that were trained elsewhere, merged into their base by peft itself, in float32."""

import re
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict
from transformers import PreTrainedModel

from knowshift.models.admission import check_admission
from knowshift.models.foreign import Checkpoint, check_checkpoint, copy_tokenizer, has_tokenizer, is_adapter
from knowshift.models.loading import load_model
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.counterparts import is_vocabulary
from knowshift.weights.model_folder import ADAPTER, ADAPTER_WEIGHTS
from knowshift.weights.safetensors_files import StoredTensor, read_header

_WRAPPED = re.compile(r"\.(?:modules_to_save|original_module)\.weight$")
_ROWS = {"lora_B.weight": 0, "lora_embedding_A": 1}  # of LoRA's factors: the axis that counts a vocabulary's tokens


def write_in_form_of_base(base: Path, tuned: Path, output: Path) -> Checkpoint:
    """Write a checkpoint or an adapter from elsewhere into the directory `output` in the form of its base.

    Args:
        base: model directory of the base.
        tuned: folder of a whole checkpoint, or of an adapter, which is merged; neither is changed.
        output: an existing directory.

    Returns:
        The whole checkpoint that was written.

    Raises:
        KnowshiftError: see `Checkpoint`, `merge_adapter` and `check_admission`.
    """
    check_checkpoint(base)
    if not is_adapter(tuned):
        checkpoint = Checkpoint(base, tuned)
        checkpoint.write(output)
    else:
        with TemporaryDirectory(dir=output, prefix="merged-") as name:
            merge_adapter(base, tuned, Path(name))
            checkpoint = Checkpoint(base, Path(name))
            checkpoint.write(output)
    try:
        check_admission(output)
    except KnowshiftError as error:  # the user knows the folder that was given
        raise KnowshiftError(str(error).replace(str(output), str(tuned))) from None
    return checkpoint


def merge_adapter(base: Path, adapter: Path, output: Path) -> None:
    """Write the model that a base and an adapter make into the directory `output`, in float32.

    The adapter's folder is only read. Its tokenizer is taken where it has one, else the base's.

    Args:
        base: model directory of the base.
        adapter: folder of the adapter.
        output: an existing directory.

    Raises:
        KnowshiftError: the adapter cannot be read or merged, or belongs to another model.
    """
    stored = _stored(adapter)
    try:
        config = PeftConfig.from_pretrained(str(adapter))
    except (KeyError, TypeError, ValueError) as error:
        raise KnowshiftError(f"peft cannot read {adapter / ADAPTER}: {_line(error)}") from None
    if config.is_prompt_learning:
        raise KnowshiftError(f"{adapter} is of the kind {config.peft_type}, which has no form as weights of the model")
    model = load_model(base, "float32")
    _resize(model, stored, adapter)
    merged = _merged(model, adapter, config)
    head: Any = merged.get_output_embeddings()
    embedding: Any = merged.get_input_embeddings()
    merged.config.tie_word_embeddings = head.weight is embedding.weight or torch.equal(head.weight, embedding.weight)
    merged.config._name_or_path = ""  # else the same adapter in another folder would give other bytes
    merged.save_pretrained(output)
    copy_tokenizer(adapter if has_tokenizer(adapter) else base, output)


def _stored(adapter: Path) -> dict[str, StoredTensor]:
    """Read which tensors an adapter holds.

    Raises:
        KnowshiftError: it has no safetensors.
    """
    if (adapter / ADAPTER_WEIGHTS).is_file():
        return read_header(adapter / ADAPTER_WEIGHTS)
    if (adapter / "adapter_model.bin").is_file():
        names = f"torch.load('{adapter}/adapter_model.bin', weights_only=True), '{adapter}/{ADAPTER_WEIGHTS}'"
        raise KnowshiftError(
            f"{adapter} has its weights in adapter_model.bin only, which can hold code and is not read; convert"
            f' it with: python -c "import torch; from safetensors.torch import save_file; save_file({names})"'
        )
    raise KnowshiftError(f"{adapter} has {ADAPTER} but no {ADAPTER_WEIGHTS}; save the adapter again")


def _resize(model: PreTrainedModel, stored: dict[str, StoredTensor], adapter: Path) -> None:
    """Give a model the rows for new tokens that an adapter brings along.

    Raises:
        KnowshiftError: it has too few rows, or does not hold those of a tensor that must grow.
    """
    whole = {
        _module(name): tensor.shape[0]
        for name, tensor in stored.items()
        if name.endswith(".weight") and is_vocabulary(f"{_module(name)}.weight") and "lora_" not in name
    }
    sizes = set(whole.values())
    for name, tensor in stored.items():
        for factor, axis in _ROWS.items():
            if name.endswith(f".{factor}") and is_vocabulary(f"{_module(name.removesuffix(factor))}.weight"):
                sizes.add(tensor.shape[axis])
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    wanted = max(sizes, default=rows)
    if wanted < rows:
        raise KnowshiftError(
            f"{adapter} was trained for {wanted} tokens, but its base has {rows}: the vocabulary shrank"
        )
    if wanted == rows:
        return
    model.resize_token_embeddings(wanted, mean_resizing=False)
    modules: dict[int, list[str]] = {}  # modules that share a weight, as a tied head does
    for name, module in model.named_modules():
        if is_vocabulary(f"{name}.weight"):
            modules.setdefault(id(module.weight), []).append(name)
    for names in modules.values():
        if not {_module(f"{name}.weight") for name in names} & set(whole):
            name = names[0]
            raise KnowshiftError(
                f"{adapter} was trained for {wanted} tokens, but does not hold the rows of {name} beyond {rows}; save"
                " it with save_embedding_layers=True"
            )


def _module(name: str) -> str:
    """The module at the end of a tensor's name, such as lm_head."""
    return re.sub(r"(?:\.base_layer)?\.(?:weight|bias)$", "", name.rstrip(".")).rpartition(".")[2]


def _merged(model: PreTrainedModel, adapter: Path, config: PeftConfig) -> PreTrainedModel:
    """Merge an adapter into a model, in the model's memory.

    Raises:
        KnowshiftError: it does not fit the model, or peft cannot merge its kind.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            tuner = PeftModel.from_pretrained(model, str(adapter), config=config)
            loaded = set_peft_model_state_dict(tuner, load_peft_weights(str(adapter), device="cpu"))
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise KnowshiftError(f"{adapter} does not fit this base model: {_line(error)}") from None
    missing = [str(warning.message) for warning in said if "missing adapter keys" in str(warning.message)]
    # Saved embeddings are stored a second time under the names of peft's own wrappers.
    odd = [name for name in loaded.unexpected_keys if not _WRAPPED.search(name)]
    if odd or missing:
        name = f"only it has {odd[0]}" if odd else _line(missing[0])
        raise KnowshiftError(f"{adapter} was made for another model: {name}")
    try:
        merged = tuner.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, ValueError) as error:
        raise KnowshiftError(f"peft cannot merge {adapter} ({config.peft_type}): {_line(error)}") from None
    return merged.eval()


def _line(error: Exception | str) -> str:
    """The last line of an error's message that says something, in at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (lines[-1] if len(lines[0]) > 200 or lines[0].endswith(":") else lines[0])[:200]
