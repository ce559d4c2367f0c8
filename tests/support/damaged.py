"""Model folders that are damaged, doubled, quantised, incomplete or not those of their model, by what is wrong."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from knowshift.weights.model_folder import INDEX, SINGLE

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def safetensors(header: Any, data: bytes = b"0" * 8, length: int | None = None) -> bytes:
    """Make a safetensors file of any header, which may be text, and may state another length than it has."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


FILES = {
    "empty": b"",
    "seven bytes": b"1234567",
    "an archive": b"PK\3\4" + bytes(100),
    "header longer than the file": safetensors({"a": ENTRY}, length=1 << 63),
    "no header": safetensors(b""),
    "header is a list": safetensors([ENTRY]),
    "header is not UTF-8": safetensors(b'{"\xff": 1}'),
    "header nested 200,000 times": safetensors(b'{"a":' * 200_000),
    "a lone surrogate": safetensors(json.dumps({"\ud800": ENTRY}).encode()),
    "metadata are numbers": safetensors({"__metadata__": {"a": 1}, "a": ENTRY}),
    "entry is a number": safetensors({"a": 1}),
    "no dtype": safetensors({"a": {"shape": [2], "data_offsets": [0, 8]}}),
    "no shape": safetensors({"a": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "no offsets": safetensors({"a": {"dtype": "F32", "shape": [2]}}),
    "an unknown dtype": safetensors({"a": {**ENTRY, "dtype": "F12"}}),
    "four bits": safetensors({"a": {**ENTRY, "dtype": "F4", "shape": [16]}}),
    "offsets are texts": safetensors({"a": {**ENTRY, "data_offsets": ["0", "8"]}}),
    "one offset": safetensors({"a": {**ENTRY, "data_offsets": [0]}}),
    "offsets exchanged": safetensors({"a": {**ENTRY, "data_offsets": [8, 0]}}),
    "negative offsets": safetensors({"a": {**ENTRY, "data_offsets": [-8, 0]}}),
    "offsets overlap": safetensors({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)),
    "a gap": safetensors({"a": ENTRY, "b": {**ENTRY, "data_offsets": [12, 20]}}, bytes(20)),
    "2^62 elements": safetensors({"a": {**ENTRY, "shape": [1 << 62], "data_offsets": [0, 1 << 62]}}),
    "2^66 elements": safetensors({"a": {**ENTRY, "shape": [1 << 33, 1 << 33], "data_offsets": [0, 8]}}),
    "5,000 digits": safetensors(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}'),
    "a negative size": safetensors({"a": {**ENTRY, "shape": [-2]}}),
    "a size is true": safetensors({"a": {**ENTRY, "shape": [True, 2]}}),
    "shape and offsets differ": safetensors({"a": {**ENTRY, "shape": [3]}}),
    "a tensor twice": safetensors(f'{{"a": {json.dumps(ENTRY)}, "a": {json.dumps(ENTRY)}}}'.encode()),
    "cut short": safetensors({"a": ENTRY}, b"0" * 7),
    "too long": safetensors({"a": ENTRY}, b"0" * 9),
    "no tensors": safetensors({}, b""),
}


def link_to_itself(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / name)


def indexed(folder: Path, index: Any, single: bool = False) -> None:
    """Give a folder an index, and its weights the name of a shard."""
    if not single:
        (folder / SINGLE).rename(folder / "a.safetensors")
    (folder / INDEX).write_bytes(index if isinstance(index, bytes) else json.dumps(index).encode())


def weight_map(folder: Path, file: Any = "a.safetensors") -> dict[str, Any]:
    """An index that says of every tensor that `file` holds it."""
    return {"weight_map": dict.fromkeys(load_file(folder / SINGLE), file)}


def configured(folder: Path, **more: Any) -> None:
    """Change the configuration of a model."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **more}))


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Change the tensors of a model."""
    save_file(change(load_file(folder / SINGLE)), folder / SINGLE, {"format": "pt"})


def without(*ends: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Leave tensors out."""
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.endswith(ends)}


# What is done to a folder, and what is said of it.
FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda folder: (folder / SINGLE).unlink(), "holds no weights"),
    "weights are a folder": (lambda folder: ((folder / SINGLE).unlink(), (folder / SINGLE).mkdir()), "no weights"),
    "weights link to themselves": (lambda folder: link_to_itself(folder, SINGLE), "holds no weights"),
    "configuration is damaged": (
        lambda folder: (folder / "config.json").write_bytes(b'{"a": \xff'),
        "config.json: not UTF-8",
    ),
    "configuration is a list": (lambda folder: (folder / "config.json").write_text("[]"), "holds no JSON object"),
    "index is damaged": (lambda folder: indexed(folder, b"{"), f"{INDEX}: not valid JSON"),
    "index is nested": (lambda folder: indexed(folder, b"[" * 200_000), f"{INDEX}: nested"),
    "index has no map": (lambda folder: indexed(folder, {"metadata": {}}), "no weight_map"),
    "index has an empty map": (lambda folder: indexed(folder, {"weight_map": {}}), "no weight_map"),
    "index has a list": (lambda folder: indexed(folder, {"weight_map": ["a"]}), "no weight_map"),
    "index names a number": (lambda folder: indexed(folder, weight_map(folder, 1)), "names the file 1"),
    "index leaves the folder": (lambda folder: indexed(folder, weight_map(folder, "../a.safetensors")), "same folder"),
    "index names a root": (lambda folder: indexed(folder, weight_map(folder, "/a.safetensors")), "same folder"),
    "index names a pickle": (lambda folder: indexed(folder, weight_map(folder, "a.bin")), "must be *.safetensors"),
    "index names a zero byte": (lambda folder: indexed(folder, weight_map(folder, "\0.safetensors")), "same folder"),
    "index names a surrogate": (lambda folder: indexed(folder, weight_map(folder, "\ud800.safetensors")), "same fold"),
    "index names a missing file": (lambda folder: indexed(folder, weight_map(folder, "b.safetensors")), "not exist"),
    "index names a missing tensor": (
        lambda folder: indexed(folder, {"weight_map": {"a.weight": "a.safetensors"}}),
        "names the tensor a.weight, which no file holds",
    ),
    "two files hold a tensor": (
        lambda folder: (
            shutil.copy(folder / SINGLE, folder / "b.safetensors"),
            indexed(folder, {"weight_map": {"lm_head.weight": "a.safetensors", "model.norm.weight": "b.safetensors"}}),
        ),
        "both hold the tensor",
    ),
    "two sets of weights": (
        lambda folder: (
            shutil.copy(folder / SINGLE, folder / "a.safetensors"),
            indexed(folder, weight_map(folder), single=True),
        ),
        "two sets of weights",
    ),
    "an adapter beside": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "adapter (adapter_config"),
    "an adapter alone": (
        lambda folder: (
            (folder / SINGLE).rename(folder / "adapter_model.safetensors"),
            (folder / "adapter_config.json").write_text("{}"),
        ),
        "and no model; merge it",
    ),
    "a type that is a list": (lambda folder: configured(folder, model_type=["llama"]), "the model_type ['llama']"),
    "layers without end": (lambda folder: configured(folder, num_hidden_layers=10**7), "'num_hidden_layers': 10000000"),
    "layers without end inside": (
        lambda folder: configured(folder, text_config={"n_layer": 10**7}),
        "states 'n_layer': 10000000",
    ),
    "other weights named": (
        lambda folder: (
            shutil.copy(folder / SINGLE, folder / "other.safetensors"),
            configured(folder, transformers_weights="other.safetensors"),
        ),
        "names 'other.safetensors' (transformers_weights)",
    ),
    "a distributed checkpoint": (
        lambda folder: shutil.copy(folder / SINGLE, folder / "shard-00001-model-00001-of-00001.safetensors"),
        "is part of a distributed checkpoint",
    ),
    "GPTQ": (lambda folder: configured(folder, quantization_config={"quant_method": "gptq"}), "quantised (GPTQ)"),
    "AWQ": (lambda folder: configured(folder, quantization_config={"quant_method": "awq"}), "quantised (AWQ)"),
    "bitsandbytes": (
        lambda folder: configured(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "quantised (bitsandbytes)",
    ),
    "MXFP4": (lambda folder: configured(folder, quantization_config={"quant_method": "mxfp4"}), "quantised (MXFP4)"),
    "another method": (lambda folder: configured(folder, quantization_config={"quant_method": "new"}), "sed (new)"),
    "quantised inside": (
        lambda folder: configured(folder, text_config={"quantization_config": {"quant_method": "fp8"}}),
        "quantised (FP8)",
    ),
    "FP8 that nothing states": (
        lambda folder: rewritten(
            folder, lambda all_: {n: t.to(torch.float8_e4m3fn) if "proj" in n else t for n, t in all_.items()}
        ),
        "quantised (tensor model.layers.0.mlp.down_proj.weight is float8_e4m3fn)",
    ),
}
# What is wrong only for the model that the configuration makes.
TENSORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "_orig_mod.": (
        lambda folder: rewritten(folder, lambda all_: {f"_orig_mod.{name}": one for name, one in all_.items()}),
        "begin with '_orig_mod.'",
    ),
    "module.": (
        lambda folder: rewritten(folder, lambda all_: {f"module.{name}": one for name, one in all_.items()}),
        "begin with 'module.'",
    ),
    "another prefix": (
        lambda folder: rewritten(folder, lambda all_: {f"net.{name}": one for name, one in all_.items()}),
        "lacks 21 tensors (lm_head.weight, model.embed_tokens.weight, ",
    ),
    "no head": (lambda folder: rewritten(folder, without("lm_head.weight")), "lacks 1 tensor (lm_head.weight)"),
    "no layer": (
        lambda folder: rewritten(folder, lambda all_: {n: t for n, t in all_.items() if "layers.1.mlp" not in n}),
        "lacks 3 tensors (model.layers.1.mlp.down_proj.weight, ",
    ),
    "a layer more": (lambda folder: configured(folder, num_hidden_layers=3), "lacks 9 tensors (model.layers.2."),
    "a layer fewer": (lambda folder: configured(folder, num_hidden_layers=1), "holds 9 tensors (model.layers.1."),
    "a head of values": (
        lambda folder: rewritten(folder, lambda all_: {**all_, "v_head.summary.weight": torch.ones(1, 32)}),
        "holds 1 tensor (v_head.summary.weight) that its model does not know",
    ),
    "GPTQ that nothing states": (
        lambda folder: rewritten(
            folder,
            lambda all_: {
                name.replace("weight", "qweight") if "proj" in name else name: one.int() if "proj" in name else one
                for name, one in all_.items()
            },
        ),
        "lacks 14 tensors",
    ),
    "integers": (
        lambda folder: rewritten(folder, lambda all_: {n: t.char() if "proj" in n else t for n, t in all_.items()}),
        "is stored as int8",
    ),
    "another size": (lambda folder: configured(folder, intermediate_size=64), "6 tensors of other shapes"),
    "no causal model": (lambda folder: configured(folder, model_type="clip"), "no causal language model of the type"),
    "heads that do not divide": (lambda folder: configured(folder, hidden_act="no such"), "cannot make a causal"),
}
