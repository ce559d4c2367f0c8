"""Weights on disk: safetensors directories, single-file or sharded, read and written in pieces of a tensor.

Tensors are arrays of bit patterns, see `floats`. Pieces are copied into memory of their own, not mapped, so a process holds
only what it asked for, however large the files.
"""

import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.bit_patterns import WIDTHS, integers

INDEX = "model.safetensors.index.json"
_HEAD = "model.embed_tokens.weight", "lm_head.weight"
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: its file, type (by its name in torch), shape, and the offset of its first byte in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


def read_header(path: Path) -> dict[str, Place]:
    """The tensors of a safetensors file.

    Raises:
        KnowshiftError: the file is no safetensors file, is truncated, or holds an unknown type.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(start - 8)) if start <= size else None
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise KnowshiftError(f"{path} is no safetensors file, or was cut short")
    header.pop("__metadata__", None)
    places = {}
    for name, entry in header.items():
        if entry["dtype"] not in _DTYPES:
            raise KnowshiftError(f"{path}: tensor {name} has the unknown type {entry['dtype']}")
        first, end = entry["data_offsets"]
        if start + end > size:
            raise KnowshiftError(f"{path} was cut short: tensor {name} ends beyond the file")
        places[name] = Place(path, _DTYPES[entry["dtype"]], tuple(entry["shape"]), start + first)
    return places


def read_piece(place: Place, start: int = 0, stop: int | None = None) -> np.ndarray:
    """The elements of a tensor from `start` to before `stop`, flat.

    Raises:
        KnowshiftError: the file ends before them.
    """
    stop = math.prod(place.shape) if stop is None else stop
    bits = np.empty(stop - start, integers(place.dtype))
    buffer = memoryview(bits.view(np.uint8))
    done, first = 0, place.offset + start * bits.itemsize
    file = os.open(place.file, os.O_RDONLY)
    try:
        while done < len(buffer):
            got = os.preadv(file, [buffer[done:]], first + done)
            if not got:
                raise KnowshiftError(f"{place.file} was cut short while it was read")
            done += got
    finally:
        os.close(file)
    return bits


class Weights:
    """The tensors of a model directory, by name; nothing is loaded until it is asked for.

    An output head that the configuration ties to the input embedding is the same tensor: a stored copy is left out.

    Attributes:
        places: tensor names, sorted (the order in which the whole project walks over weights), and where each lies.

    Raises:
        KnowshiftError: the directory holds no safetensors weights, or an index names a missing file or tensor.
    """

    def __init__(self, directory: Path) -> None:
        if (directory / INDEX).is_file():
            shard_of = json.loads((directory / INDEX).read_text(encoding="utf-8"))["weight_map"]
            files = sorted(set(shard_of.values()))
        elif (directory / "model.safetensors").is_file():
            shard_of, files = None, ["model.safetensors"]
        else:
            raise KnowshiftError(f"{directory} holds no weights: neither model.safetensors nor {INDEX}")
        if missing := [name for name in files if not (directory / name).is_file()]:
            raise KnowshiftError(f"{directory / INDEX} names {missing[0]}, which does not exist")
        found = {name: place for file in files for name, place in read_header(directory / file).items()}
        if lost := sorted(set(shard_of or ()) - set(found)):
            raise KnowshiftError(f"{directory / INDEX} names the tensor {lost[0]}, which no file holds")
        if _HEAD[0] in found and _HEAD[1] in found and _is_tied(directory):
            del found[_HEAD[1]]
        self.places = {name: found[name] for name in sorted(found)}

    def names(self) -> list[str]:
        """Tensor names, sorted."""
        return list(self.places)

    def shards(self) -> dict[str, list[str]]:
        """Shard file names with their tensors."""
        shards: dict[str, list[str]] = {}
        for name, place in self.places.items():
            shards.setdefault(place.file.name, []).append(name)
        return shards

    def piece(self, name: str, start: int, stop: int) -> np.ndarray:
        """The elements from `start` to before `stop` of a tensor, flat; several threads may read at once."""
        return read_piece(self.places[name], start, stop)

    def read(self, name: str) -> np.ndarray:
        """One tensor."""
        return read_piece(self.places[name]).reshape(self.places[name].shape)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, tensor) in the order of names, one in memory at a time."""
        for name in self.places:
            yield name, self.read(name)


def _is_tied(directory: Path) -> bool:
    path = directory / "config.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("tie_word_embeddings") is True


def writing_order(dtypes: Mapping[str, str]) -> list[str]:
    """The order in which `write_safetensors` writes tensors: wide types first, which keeps every tensor aligned."""
    return sorted(dtypes, key=lambda name: (-WIDTHS[dtypes[name]], name))


def write_safetensors(
    path: Path,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    pieces: Callable[[str], Iterable[np.ndarray]],
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write a safetensors file piece by piece, so that no tensor need be in memory whole.

    Args:
        path: the file to write; the same content gives the same bytes (safetensors' own writer has metadata in any order).
        tensors: type and shape by name.
        pieces: the consecutive pieces of a tensor, by its name.
        metadata: for the header; by default what transformers wants there.

    Returns:
        The bytes of the tensors.
    """
    names = writing_order({name: dtype for name, (dtype, _) in tensors.items()})
    header: dict = {"__metadata__": dict(metadata or {"format": "pt"})}
    end = 0
    for name in names:
        dtype, shape = tensors[name]
        start, end = end, end + math.prod(shape) * WIDTHS[dtype]
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            for piece in pieces(name):
                file.write(np.ascontiguousarray(piece))
    return end
