"""Checkpoints that were fine-tuned elsewhere: what is refused, and how the rest gets the form of its base.

The form is that of a model that this project trained: one folder with safetensors whose tensors have the base's names,
configuration, tokenizer, and nothing else. `adapters` makes such a folder of an adapter.
"""

import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig, PreTrainedConfig

from knowshift.models.loading import load_tokenizer, loading_options
from knowshift.runtime.errors import KnowshiftError, first_line
from knowshift.weights.counterparts import input_embedding, pair_tensors
from knowshift.weights.model_folder import ADAPTER, INDEX, SINGLE, files_beside, quantised, read_config, weight_set
from knowshift.weights.safetensors_files import StoredTensor, WeightFiles, read_piece
from knowshift.weights.safetensors_files import write_safetensors as write_file

TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.jinja", "*.model")
_SETTINGS = ("config.json", "generation_config.json", "LICENSE*")
_BLOCK = 1 << 22  # elements that are copied at a time
_QUANTISED = re.compile(
    r"\.(?:qweight|qzeros|g_idx|SCB|absmax|nested_absmax|quant_map|quant_state[\w.]*|weight_packed|weight_scale\w*)$"
)
# Settings that say nothing of how a token's logits follow from the weights.
_HARMLESS = re.compile(
    r"^(?:vocab_size|tie_word_embeddings|architectures|auto_map|(?:torch_)?dtype|transformers_version|_.*|use_cache"
    r"|.*token_id|.*dropout|pdrop|.*_pdrop|initializer_range|initializer_factor|name_or_path|pretraining_tp|unsloth_.*"
    r"|model_type|output_.*|return_dict|chunk_size_feed_forward|is_encoder_decoder|id2label|label2id|problem_type)$"
)


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds a PEFT adapter instead of a whole model.

    Raises:
        KnowshiftError: it holds both.
    """
    if not (folder / ADAPTER).is_file():
        return False
    if (folder / SINGLE).is_file() or (folder / INDEX).is_file():
        weight_set(folder)  # says so
    return True


def check_checkpoint(folder: Path) -> None:
    """Check that a folder holds a whole model in safetensors that is not quantised.

    Raises:
        KnowshiftError: says what the folder holds instead, and what to do about it; or as `WeightFiles`.
    """
    if not folder.is_dir():
        raise KnowshiftError(f"{folder} is no folder; give the folder of a model, or of an adapter")
    whole = (folder / SINGLE).is_file() or (folder / INDEX).is_file()
    if not (folder / "config.json").is_file() or not whole:
        raise KnowshiftError(_what_is_there_instead(folder))
    for name in WeightFiles(folder).tensors:
        if _QUANTISED.search(name):
            raise quantised(folder, f"GPTQ, AWQ, bitsandbytes or alike: tensor {name}")


def _what_is_there_instead(folder: Path) -> str:
    """Say in one line why a folder is no model that can be read, and what to do."""
    target = f"{folder.name}-safetensors"
    command = f"from transformers import AutoModelForCausalLM as M; M.from_pretrained('{folder}').save_pretrained"
    if any(folder.glob("*.safetensors")) and not (folder / "config.json").is_file():
        return f"{folder} holds weights but no config.json; copy that of the model"
    if any(folder.glob("*.bin")):
        return (
            f"{folder} has its weights in *.bin only, which can hold code and is not read; convert it with: python -c"
            f" \"{command}('{target}')\", and copy its tokenizer to {target}"
        )
    if any(folder.glob("*.gguf")):
        return f"{folder} holds a GGUF file, which is quantised as a rule; give the checkpoint that it was made from"
    inner = [path for path in folder.glob("checkpoint-*") if path.is_dir()]
    if inner:
        last = max(inner, key=lambda path: int(path.name.rpartition("-")[2]) if path.name[11:].isdigit() else -1)
        return f"{folder} holds no model itself, but checkpoints; give one of them, such as {last}"
    missing = "config.json" if not (folder / "config.json").is_file() else f"neither {SINGLE} nor {INDEX}"
    return f"{folder} is no model: {missing} {'is missing' if missing == 'config.json' else 'is there'}"


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder holds a tokenizer."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def check_vocabulary(base: Path, tuned: Path) -> None:
    """Check that no token of the base's tokenizer has another id in that of the tuned model, where it has one.

    Raises:
        KnowshiftError: names the first token that has.
    """
    if not (has_tokenizer(base) and has_tokenizer(tuned)):
        return
    before, after = load_tokenizer(base).get_vocab(), load_tokenizer(tuned).get_vocab()
    moved = sorted((number, token) for token, number in before.items() if after.get(token, number) != number)
    if moved:
        number, token = moved[0]
        raise KnowshiftError(
            f"the vocabulary of {tuned} is in another order: token {token!r} is number {number} in {base} but"
            f" {after[token]} there ({len(moved)} tokens differ); rows of other tokens cannot be compared"
        )


def differing_settings(base: Path, tuned: Path) -> list[str]:
    """List settings that compute logits from weights and differ between two models, each as `name: old → new`."""
    old, new = (_flat(_config(folder).to_dict()) for folder in (base, tuned))
    names = sorted(name for name in {*old, *new} if not _HARMLESS.match(name.rpartition(".")[2]))
    return [f"{name}: {old.get(name)} → {new.get(name)}" for name in names if old.get(name) != new.get(name)]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Bring nested settings into one level, with dots in their names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _config(folder: Path) -> PreTrainedConfig:
    """Load a model's configuration.

    Raises:
        KnowshiftError: transformers does not know its kind, or it needs code that is not trusted.
    """
    options = loading_options(folder)
    try:
        return AutoConfig.from_pretrained(folder, **options)
    except (ValueError, OSError) as error:
        raise KnowshiftError(f"transformers cannot read {folder / 'config.json'}: {first_line(error)}") from None


class Checkpoint:
    """A whole checkpoint from elsewhere beside its base.

    Args:
        base: model directory of the base.
        tuned: folder of the checkpoint.

    Attributes:
        loads_as_it_is: whether transformers loads the right model from the folder, and says so itself: all tensors have
            the names that the base's have.
        has_form_of_base: whether, besides, the folder holds nothing else, so that weights can be compared in place.
        new_tokens: how many rows the vocabulary has grown by.

    Raises:
        KnowshiftError: the checkpoint cannot be read, or is no version of the base.
    """

    def __init__(self, base: Path, tuned: Path) -> None:
        for folder in (base, tuned):
            check_checkpoint(folder)
        self.base, self.tuned = base, tuned
        before, self._after = WeightFiles(base), WeightFiles(tuned)
        tied = bool(_config(tuned).get_text_config().tie_word_embeddings)
        self._pairs = pair_tensors(before, self._after, base, tuned, tied)
        self._tables = {name: before.tensors[name] for name in sorted(before.no_parameters - set(self._pairs))}
        check_vocabulary(base, tuned)
        self._own_head = len(self._pairs) > len(before.tensors.keys() & self._pairs.keys())
        self._tied = not any(name.endswith(("lm_head.weight", "embed_out.weight")) for name in self._pairs)
        named_alike = all(name == other for name, other in self._pairs.items())
        self.loads_as_it_is = named_alike and (tied == self._tied or not self._own_head)
        same_names = {*self._pairs, *self._tables} == set(self._after.tensors)
        self.has_form_of_base = self.loads_as_it_is and same_names
        embedding = input_embedding(before.tensors)
        self.new_tokens = 0
        if embedding is not None:
            grown = self._after.tensors[self._pairs[embedding]].shape[0]
            self.new_tokens = grown - before.tensors[embedding].shape[0]

    def write(self, output: Path) -> None:
        """Write the checkpoint into the directory `output` in the form of its base.

        Weights keep values, types and shards; masks and tables that only the base has are the base's. So is the
        tokenizer where the checkpoint has none.

        Args:
            output: an existing directory.

        Raises:
            KnowshiftError: as `files_beside`.
        """
        _copy(self.tuned, output, _SETTINGS)
        if not (output / "generation_config.json").is_file() and (self.base / "generation_config.json").is_file():
            shutil.copyfile(self.base / "generation_config.json", output / "generation_config.json")
        copy_tokenizer(self.tuned if has_tokenizer(self.tuned) else self.base, output)
        config = read_config(output)
        if bool(config.get("tie_word_embeddings", not self._tied)) != self._tied:
            config["tie_word_embeddings"] = self._tied
            (output / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        self._write_weights(output)

    def _write_weights(self, output: Path) -> None:
        stored = {name: self._after.tensors[other] for name, other in self._pairs.items()}
        files = sorted({tensor.file for tensor in stored.values()})
        names = {file: SINGLE if len(files) == 1 else file.name for file in files}
        placed = {name: names[tensor.file] for name, tensor in stored.items()}
        placed |= dict.fromkeys(self._tables, names[files[-1]])
        stored |= self._tables
        total = 0
        for file in names.values():
            tensors = {name: (stored[name].dtype, stored[name].shape) for name in placed if placed[name] == file}
            total += write_file(output / file, tensors, lambda name: _pieces(stored[name]))
        if len(files) > 1:
            index = {"metadata": {"total_size": total}, "weight_map": placed}
            (output / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def copy_tokenizer(source: Path, output: Path) -> None:
    """Copy the files of a tokenizer, its chat template among them, into an existing directory.

    Raises:
        KnowshiftError: as `files_beside`.
    """
    _copy(source, output, TOKENIZER)


def copy_files(folder: Path, output: Path) -> None:
    """Copy configuration and tokenizer of a model, without its weights, into an existing directory.

    Raises:
        KnowshiftError: as `files_beside`.
    """
    _copy(folder, output, (*_SETTINGS, *TOKENIZER))


def _copy(source: Path, output: Path, patterns: Iterable[str]) -> None:
    """Copy the files beside a model's weights whose names match a pattern."""
    for path in files_beside(source, patterns):
        shutil.copyfile(path, output / path.name)


def _pieces(tensor: StoredTensor) -> Iterator[np.ndarray]:
    """Read a stored tensor, a part of it in memory at a time."""
    size = math.prod(tensor.shape)
    return (read_piece(tensor, start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK))
