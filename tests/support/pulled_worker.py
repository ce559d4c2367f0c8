"""A process that trains a model with a pull towards it; alone, or one of several that torchrun starts."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from knowshift.configuration.finetuning import Recipe
from knowshift.finetuning.distributed_tensors import gathered
from knowshift.finetuning.loop import adamw, train
from knowshift.finetuning.sharding import load_sharded
from knowshift.models.loading import load_model

EXAMPLES = [([1, *range(3 + n, 10 + n), 2], 4) for n in range(10)]


def main(directory: Path, output: Path) -> None:
    """Train the model in a directory, and write its whole weights; alone also those of a training without a pull."""
    several = "RANK" in os.environ
    if several:
        dist.init_process_group("gloo")
    for strength, path in ((50.0, output), (0.0, Path(f"{output}.free"))):
        model = load_sharded(directory, "float32", torch.device("cpu")) if several else load_model(directory, "float32")
        recipe = Recipe(learning_rate=1e-3, epochs=4, batch_size=4, l2_sp=strength)
        list(train(model, adamw(model, recipe), EXAMPLES, recipe, 1))
        weights = {name: gathered(parameter).detach().clone() for name, parameter in model.named_parameters()}
        if not several or dist.get_rank() == 0:
            torch.save(weights, path)
        if several:
            break
    if several:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
