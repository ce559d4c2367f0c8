"""Weights on disk: safetensors directories, single-file or sharded, read one tensor at a time."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from knowshift.errors import KnowshiftError

INDEX = "model.safetensors.index.json"


class Weights:
    """The tensors of a model directory, by name; nothing is loaded until it is asked for.

    Raises:
        KnowshiftError: the directory holds no safetensors weights, or an index names a missing file.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if (directory / INDEX).is_file():
            placed = json.loads((directory / INDEX).read_text(encoding="utf-8"))["weight_map"]
        else:
            single = directory / "model.safetensors"
            if not single.is_file():
                raise KnowshiftError(f"{directory} holds no weights: neither model.safetensors nor {INDEX}")
            with safe_open(single, "pt") as file:
                placed = dict.fromkeys(file.keys(), single.name)
        if missing := sorted({name for name in placed.values() if not (directory / name).is_file()}):
            raise KnowshiftError(f"{directory / INDEX} names {missing[0]}, which does not exist")
        self.shard_of: dict[str, str] = {name: placed[name] for name in sorted(placed)}

    def names(self) -> list[str]:
        """Tensor names, sorted: the order in which the whole project walks over weights."""
        return list(self.shard_of)

    def shards(self) -> dict[str, list[str]]:
        """Shard file names with their tensors."""
        shards: dict[str, list[str]] = {}
        for name, shard in self.shard_of.items():
            shards.setdefault(shard, []).append(name)
        return shards

    def read(self, name: str) -> torch.Tensor:
        """One tensor."""
        with safe_open(self.directory / self.shard_of[name], "pt") as file:
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, tensor) in the order of `names`, one shard open at a time where the order allows."""
        shard, file = None, None
        for name in self.names():
            if self.shard_of[name] != shard:
                shard = self.shard_of[name]
                file = safe_open(self.directory / shard, "pt")
            yield name, file.get_tensor(name)
