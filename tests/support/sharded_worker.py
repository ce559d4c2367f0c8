"""A process that loads its shard of a model and checks it; torchrun starts several, see test_finetune.py."""

import resource
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from knowshift.finetuning.sharding import load_sharded
from knowshift.weights.safetensors_files import WeightFiles
from knowshift.weights.torch_bits import as_tensor


def main(directory: Path) -> None:
    """Load this process's shard of the model in a directory, and assert that it is its part and no more was read."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = load_sharded(directory, "float32", torch.device("cpu"))
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    weights, held = WeightFiles(directory), 0
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor), name
        whole = as_tensor(weights.read(name), weights.tensors[name].dtype)
        rows = torch.chunk(whole, world)  # FSDP cuts the first dimension as this does
        mine = rows[rank] if rank < len(rows) else whole[:0]
        assert torch.equal(parameter.to_local(), mine), name
        held += mine.numel() * mine.element_size()
    total = sum(tensor.nbytes for _, tensor in weights)
    assert held <= 0.51 * total, (held, total)
    # Loading took little more than this process's half: the largest tensor is a small part of this model.
    assert grown < 0.75 * total, (grown, total)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
