"""Reading and writing safetensors files, of one shard or several, in pieces of a tensor.

Tensors are numpy arrays of bit patterns, see `bit_patterns`. Pieces are copied into memory of their own, not mapped, so
that a process holds only what it asked for, however large the files are.

safetensors' own reader and writer will not do: the reader has no bfloat16 for numpy, and the writer wants every
tensor in memory and orders metadata at random.
"""

import json
import math
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from knowshift.runtime.artefacts import MANIFEST
from knowshift.runtime.errors import KnowshiftError, first_line, shown
from knowshift.runtime.json_files import read_json_object
from knowshift.weights.bit_patterns import WIDTHS, integer_type
from knowshift.weights.model_folder import INDEX, quantised, weight_set
from knowshift.weights.tied import may_be_tied, tied_names

NO_PARAMETERS = "no_parameters"  # key of a model's manifest: stored tensors that are no parameters of the model
_TABLE = re.compile(r"\.(?:rotary_emb\.inv_freq|masked_bias)$")
_MASK = re.compile(r"(?:attn|attention)\.bias$")
_IN_A_LAYER = re.compile(r"\.\d+\.")
LFS_POINTER = b"version https://git-lfs"  # begins the file that git leaves in the place of a large one
MOST_AXES = 16  # of a tensor; models have five at most
LONGEST_NAME = 500  # characters of a tensor's name
_COMPARED = 1 << 22  # elements that are compared at a time
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class StoredTensor:
    """Where and how a tensor is stored.

    Attributes:
        file: the safetensors file.
        dtype: the type, by its name in torch.
        shape: the shape.
        offset: bytes in the file before the tensor's first one.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Read which tensors a safetensors file holds, by name.

    The library's own reader checks the header first: that it is complete, and that its tensors, of the sizes that their
    types and shapes say, cover the file without gaps and overlaps.

    Raises:
        KnowshiftError: the file is no safetensors file, is damaged or truncated, or holds a type that is not read here.
    """
    try:
        with safe_open(path, "np"), path.open("rb") as file:
            text = file.read(int.from_bytes(file.read(8), "little"))
    except SafetensorError as error:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise KnowshiftError(f"{path} only points to the weights; fetch them with: git lfs pull") from None
        reason = first_line(error).removeprefix("Error while deserializing header: ")
        raise KnowshiftError(
            f"{path} is no safetensors file, is damaged or was cut short ({reason}); fetch or save it anew"
        ) from None
    except OSError as error:
        raise KnowshiftError(f"{path} cannot be read ({error.strerror or error})") from None
    tensors: dict[str, StoredTensor] = {}
    for name, entry in json.loads(text, object_pairs_hook=list):
        if name == "__metadata__":
            continue
        if name in tensors:
            raise KnowshiftError(f"{path} is damaged (it lists the tensor {name} twice); fetch or save it anew")
        stated = dict(entry)
        if not name.isprintable() or len(name) > LONGEST_NAME or len(stated["shape"]) > MOST_AXES:
            raise KnowshiftError(
                f"{path} is no file of a model (a tensor has the name {shown(name)} and {len(stated['shape'])} axes);"
                " fetch or save it anew"
            )
        if stated["dtype"] not in _DTYPES:
            raise KnowshiftError(
                f"{path}: tensor {name} has the type {stated['dtype']}, which is not read here; use the model's"
                " original weights in bfloat16, float16 or float32"
            )
        offset = 8 + len(text) + stated["data_offsets"][0]
        tensors[name] = StoredTensor(path, _DTYPES[stated["dtype"]], tuple(stated["shape"]), offset)
    return tensors


def read_piece(tensor: StoredTensor, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Read the elements of a tensor from the flat index `start` to before `stop` (by default to the end).

    Returns:
        Bit patterns of shape (stop - start,).

    Raises:
        KnowshiftError: the file ends before them.
    """
    stop = math.prod(tensor.shape) if stop is None else stop
    bits = np.empty(stop - start, integer_type(tensor.dtype))
    buffer = bits.view(np.uint8).data
    done, first = 0, tensor.offset + start * bits.itemsize
    file = os.open(tensor.file, os.O_RDONLY)
    try:
        while done < len(buffer):
            got = os.preadv(file, [buffer[done:]], first + done)
            if not got:
                raise KnowshiftError(f"{tensor.file} was cut short while it was read")
            done += got
    finally:
        os.close(file)
    return bits


class WeightFiles:
    """The tensors of a model directory; nothing of them is read until it is asked for.

    An output head that is tied to the input embedding is the same tensor: a stored copy is left out. One that is stored
    with other values is a parameter of its own, whatever the configuration says, as it is for transformers.

    Attributes:
        tensors: where each tensor is stored, by name, sorted: the order in which the whole project walks over weights.
        no_parameters: names of stored tensors that are no parameters of the model: masks and tables, which some files
            hold as `attention.bias` or `inv_freq`, and everything that is not floating-point. No region has them. The
            directory's manifest names them where the model was resolved; elsewhere names, types and shapes tell.
        untied: whether the file holds different values for parameters that the configuration ties.

    Raises:
        KnowshiftError: as `weight_set` and `read_header`; the index names a missing tensor; two files hold one tensor;
            or a tensor is stored in eight bits.
    """

    def __init__(self, directory: Path) -> None:
        files, shard_of = weight_set(directory)
        found: dict[str, StoredTensor] = {}
        for file in files:
            for name, tensor in read_header(directory / file).items():
                if name in found:
                    raise KnowshiftError(
                        f"{found[name].file} and {tensor.file} both hold the tensor {name}; fetch or save the model"
                        " anew"
                    )
                if tensor.dtype.startswith("float8"):
                    raise quantised(directory, f"tensor {name} is {tensor.dtype}")
                found[name] = tensor
        if not found:
            raise KnowshiftError(f"{directory / files[0]} holds no tensors; fetch or save the model anew")
        if lost := sorted(set(shard_of or ()) - set(found)):
            raise KnowshiftError(f"{directory / INDEX} names the tensor {lost[0]}, which no file holds")
        copies, self.untied = _tied_copies(directory, found)
        self.tensors = {name: found[name] for name in sorted(found) if name not in copies}
        listed = _listed_in_manifest(directory)
        self.no_parameters = frozenset(
            name for name, tensor in self.tensors.items() if name in listed or _is_table(name, tensor)
        )

    def names(self) -> list[str]:
        """List the names of the tensors, sorted."""
        return list(self.tensors)

    def shards(self) -> dict[str, list[str]]:
        """List the names of the tensors in each file, by the name of the file."""
        shards: dict[str, list[str]] = {}
        for name, tensor in self.tensors.items():
            shards.setdefault(tensor.file.name, []).append(name)
        return shards

    def piece(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read a part of a tensor, see `read_piece`; several threads may read at once."""
        return read_piece(self.tensors[name], start, stop)

    def read(self, name: str) -> np.ndarray:
        """Read a whole tensor, as bit patterns in its shape."""
        return read_piece(self.tensors[name]).reshape(self.tensors[name].shape)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (name, bit patterns) in the order of names, with one tensor in memory at a time."""
        for name in self.tensors:
            yield name, self.read(name)


def _tied_copies(directory: Path, tensors: Mapping[str, StoredTensor]) -> tuple[set[str], bool]:
    """Find stored tensors that repeat another one, to which the model ties them.

    transformers is asked only where two tensors outside the layers have one shape and the configuration allows a tie.

    Returns:
        The names of the repetitions, and whether there are tensors that the configuration ties with other values.
    """
    shapes = [tensor.shape for name, tensor in tensors.items() if not _IN_A_LAYER.search(name)]
    if not any(len(shape) > 1 and shapes.count(shape) > 1 for shape in shapes) or not may_be_tied(directory):
        return set(), False
    copies, untied = set(), False
    for first, *others in tied_names(directory, tensors):
        for other in others:
            if same_values(tensors[first], tensors[other]):
                copies.add(other)
            else:
                untied = True
    return copies, untied


def same_values(one: StoredTensor, other: StoredTensor) -> bool:
    """Tell whether two stored tensors have the same type, shape and bits; a part of them is in memory at a time."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    size = math.prod(one.shape)
    return all(
        np.array_equal(read_piece(one, start, end), read_piece(other, start, end))
        for start in range(0, size, _COMPARED)
        for end in [min(start + _COMPARED, size)]
    )


def _listed_in_manifest(directory: Path) -> list[str]:
    """Return the tensors that are no parameters, as `resolve_model.py` found them from the model itself."""
    try:
        listed = read_json_object(directory / MANIFEST).get(NO_PARAMETERS, [])
    except (FileNotFoundError, KnowshiftError):  # damaged ones are reported where files are checked against them
        return []
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def _is_table(name: str, tensor: StoredTensor) -> bool:
    """Tell from name, type and shape that a stored tensor is a mask or a table; a real bias has one dimension."""
    if "float" not in tensor.dtype or _TABLE.search(name):
        return True
    return _MASK.search(name) is not None and len(tensor.shape) != 1


def writing_order(dtypes: Mapping[str, str]) -> list[str]:
    """Sort tensor names as `write_safetensors` writes them: wide types first, which keeps every tensor aligned.

    Args:
        dtypes: the type of each tensor, by name.
    """
    return sorted(dtypes, key=lambda name: (-WIDTHS[dtypes[name]], name))


def write_safetensors(
    path: Path,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    pieces: Callable[[str], Iterable[np.ndarray]],
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write a safetensors file piece by piece, so that no tensor need be in memory whole.

    The same content gives the same bytes.

    Args:
        path: the file to write.
        tensors: (type, shape) of each tensor, by name.
        pieces: returns the consecutive pieces of a tensor as bit patterns, by its name.
        metadata: strings for the header; by default the one that transformers asks for.

    Returns:
        The bytes of the tensors, without the header.
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
                file.write(np.ascontiguousarray(piece).data)
    return end
