"""Models that several processes share (FSDP2): loaded, trained and saved without a whole copy in any of them.

Every process reads its own rows of each tensor from the safetensors files. To save the model, one tensor at a time is
gathered (`knowshift.finetuning.checkpoint`).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import init_empty_weights
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from knowshift.configuration.finetuning import LoraSettings
from knowshift.finetuning.distributed_tensors import own_rows
from knowshift.finetuning.lora import add_adapters, plain_name
from knowshift.models.loading import DTYPES, attention_of, loading_options
from knowshift.weights.safetensors_files import WeightFiles
from knowshift.weights.stored_places import Place, stored_places
from knowshift.weights.torch_bits import as_tensor


def load_sharded(
    directory: Path, dtype: str, device: torch.device, lora: LoraSettings | None = None
) -> PreTrainedModel:
    """Load a model whose parameters, gradients and optimizer state are sharded over the processes of torch.distributed.

    Args:
        directory: model directory.
        dtype: number format of the weights.
        device: the device of this process.
        lora: adapters to add; they are not initialised yet.
    """
    settings = loading_options(directory)
    config = AutoConfig.from_pretrained(directory, **settings)
    weights = WeightFiles(directory)
    if weights.untied:
        config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=DTYPES[dtype],
            attn_implementation=attention_of(config),
            trust_remote_code=settings["trust_remote_code"],
        )
    model.tie_weights()
    places = stored_places(model, weights.names())
    if lora:
        add_adapters(model, lora)
    buffers = {name: buffer.to(device, copy=True) for name, buffer in model.named_buffers()}
    for layer in [module for module in model.modules() if type(module).__name__ in (model._no_split_modules or ())]:
        fully_shard(layer)
    fully_shard(model)

    model.to_empty(device=device)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        for name, parameter in model.named_parameters():
            if plain := plain_name(name):
                stored = {name: place for name, place in places.items() if place.parameter == plain}
                _fill(parameter, weights, stored)
    return model


def _fill(parameter: DTensor, weights: WeightFiles, stored: Mapping[str, Place]) -> None:
    """Read this process's rows of a parameter from the tensors that are parts of it."""
    mine, rows = parameter.to_local(), own_rows(parameter)
    if not mine.numel():
        return
    for name, place in stored.items():
        if place.whole:
            stride = parameter.numel() // parameter.shape[0]
            bits = weights.piece(name, rows.start * stride, rows.stop * stride)
            mine.copy_(as_tensor(bits, weights.tensors[name].dtype).view(mine.shape))
            return
    whole = torch.empty(parameter.shape, dtype=parameter.dtype)
    for name, place in stored.items():
        place.of(whole).copy_(as_tensor(weights.read(name), weights.tensors[name].dtype))
    mine.copy_(whole[rows])
