"""Deltas: what fine-tuning changed in a model's weights, lossless and compressed.

base + delta = tuned, bit for bit, for every type. Per chunk of a tensor, the two bit patterns are read as integers and
subtracted; zig-zag coding turns small differences of either sign into small unsigned numbers. Training moves parameters
of similar size by similar amounts, so parameters with the same exponent move by similar numbers of units in the last
place: the differences are sorted by the exponents of the base, which the reader has too, and stored byte plane by byte
plane under zstd.

A delta holds the identity of its base and refuses any other. It knows no shares, regions or strategies, so that no
later question asks for it to be made again. Rows that fine-tuning added to the vocabulary have no base; they are kept
as they are, in a file of their own.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, NonNegativeInt, TypeAdapter, ValidationError
from safetensors import safe_open

from knowshift.runtime.artefacts import MANIFEST, manifest_of, read_manifest, sha256_of
from knowshift.runtime.errors import KnowshiftError, shown
from knowshift.weights.bit_patterns import WIDTHS, all_finite, cast
from knowshift.weights.counterparts import with_own_head
from knowshift.weights.delta_codec import CHUNK, decode_chunk, encode_chunk
from knowshift.weights.delta_format import DELTA_FORMAT
from knowshift.weights.safetensors_files import StoredTensor, WeightFiles, read_header, read_piece, write_safetensors
from knowshift.weights.versions import Piece, Versions, versions_in_directories

BLOCK = 1 << 22  # bytes that are copied at a time
ADDED = "added.safetensors"  # in a delta's folder: the rows of tokens that only the tuned model has


class _Entry(BaseModel):
    """What a delta states of one tensor, see `encode_tensor`."""

    dtype: Literal["float64", "float32", "float16", "bfloat16", "bool", "uint8", "int8", "int16", "int32", "int64"]
    shape: list[NonNegativeInt]
    chunks: list[NonNegativeInt]
    sha256: str


_ENTRIES = TypeAdapter(dict[str, _Entry])


def base_identity(base: Path) -> str:
    """Compute the identity of a model's weights: a hash, in hexadecimal, over the sha256 of its safetensors files."""
    if manifest := manifest_of(base, verify=False):
        files = manifest["files"].items()
        hashes = {name: entry["sha256"] for name, entry in files if name.endswith(".safetensors")}
    else:
        hashes = {path.name: sha256_of(path) for path in base.glob("*.safetensors")}
    return hashlib.sha256(json.dumps(sorted(hashes.values())).encode()).hexdigest()


def encode_tensor(pieces: Iterable[Piece], write: Callable[[bytes], object], threads: int = 1) -> dict:
    """Compress one tensor against its base, with a few pieces in memory at a time.

    Args:
        pieces: the consecutive pieces of the tensor; all but the last have `CHUNK` elements.
        write: is called with the compressed bytes of one piece after another.
        threads: how many threads compress.

    Returns:
        What decoding needs besides type and shape: `chunks`, the compressed bytes of each piece, and `sha256`, of the
        tensor's bytes after training.

    Raises:
        KnowshiftError: a value is not finite.
    """

    def encoded(piece: Piece) -> bytes:
        for when, bits in (("before", piece.base), ("after", piece.tuned)):
            if not all_finite(bits, piece.dtype):
                raise KnowshiftError(f"tensor {piece.name} has values {when} training that are not finite")
        return encode_chunk(piece.base, piece.tuned)

    chunks, digest, left = [], hashlib.sha256(), iter(pieces)
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(left, 4 * threads)):
            for piece, blob in zip(some, pool.map(encoded, some), strict=True):
                digest.update(piece.tuned.data)
                write(blob)
                chunks.append(len(blob))
    return {"chunks": chunks, "sha256": digest.hexdigest()}


def decode_tensor(base: np.ndarray, blob: np.ndarray, chunks: list[int], threads: int = 1) -> np.ndarray:
    """Restore a tensor after training from its base and what `encode_tensor` wrote.

    Args:
        base: bit patterns before training in the type after training, any shape.
        blob: the compressed bytes of all chunks, uint8.
        chunks: the compressed bytes of each chunk.
        threads: how many threads decompress.

    Returns:
        Bit patterns after training, in the type and shape of `base`.
    """
    before = base.reshape(-1)
    after = np.empty_like(before)
    ends = np.cumsum([0, *chunks])

    def restore(number: int) -> None:
        part = slice(number * CHUNK, (number + 1) * CHUNK)
        after[part] = decode_chunk(before[part], blob.data[ends[number] : ends[number + 1]])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(restore, range(len(chunks))))
    return after.reshape(base.shape)


def diff_weights(base: Path, tuned: Path, output: Path, threads: int = 1) -> dict:
    """Write the delta of two model directories into the directory `output`, one file per shard of the tuned model.

    Args:
        base: the model directory before training.
        tuned: the model directory after training.
        output: an existing directory.
        threads: how many threads compress.

    Returns:
        Facts for the manifest: `format`, `base` (its identity) and `tuned_bytes` (of the weights after training).

    Raises:
        KnowshiftError: the models differ in the names or shapes of their tensors, or a value is not finite.
    """
    versions, identity = versions_in_directories(base, tuned), base_identity(base)
    for number, names in enumerate(WeightFiles(tuned).shards().values(), 1):
        entries, extents = {}, {}
        with TemporaryFile(dir=output) as file:  # the header, which holds the sizes, comes first
            for name in names:
                start = file.tell()
                entry = encode_tensor(versions.pieces(name, 0, versions.parameters(name)), file.write, threads)
                if not entry["chunks"]:
                    file.write(b"\0")  # so that no entry is empty
                entries[name] = {"dtype": versions.dtypes[name], "shape": list(versions.shapes[name]), **entry}
                extents[name] = start, file.tell()

            def stored(name: str, file: BinaryIO = file, extents: Mapping = extents) -> Iterator[np.ndarray]:
                start, stop = extents[name]
                file.seek(start)
                for first in range(start, stop, BLOCK):
                    yield np.frombuffer(file.read(min(BLOCK, stop - first)), np.uint8)

            header = {"format": DELTA_FORMAT, "base": identity, "tensors": json.dumps(entries, sort_keys=True)}
            sizes = {name: ("uint8", (stop - start,)) for name, (start, stop) in extents.items()}
            write_safetensors(output / f"delta-{number:05d}.safetensors", sizes, stored, header)
    raw = sum(versions.parameters(name) * WIDTHS[dtype] for name, dtype in versions.dtypes.items())
    if versions.added:
        rows = {name: (tensor.dtype, tensor.shape) for name, tensor in versions.added.items()}
        raw += write_safetensors(output / ADDED, rows, lambda name: [read_piece(versions.added[name])])
    return {"format": DELTA_FORMAT, "base": identity, "tuned_bytes": raw}


def _read_entries(path: Path) -> dict[str, _Entry]:
    """Read what a file of a delta states of each tensor in it: type, shape, sizes of its chunks, and sha256.

    Raises:
        KnowshiftError: it does not state all that.
    """
    with safe_open(path, "np") as file:
        stated = (file.metadata() or {}).get("tensors", "")
    try:
        return _ENTRIES.validate_json(stated)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"][:2])) or "tensors"
        raise KnowshiftError(
            f"{path} is damaged ({where}: {problem['msg']}); rebuild it with: snakemake --force {path.parent}"
        ) from None


class Delta:
    """A delta directory, of which one tensor or a piece of one is read at a time.

    Args:
        directory: the delta directory.
        base: the model directory before training.
        threads: how many threads decompress when whole tensors are read.

    Attributes:
        base: the weights before training.
        has_own_head: whether the tuned model has an output head of its own where the base's is the input embedding.
        added: where the rows are stored that the tuned model has beyond the base's, by name.

    Raises:
        KnowshiftError: the delta is of another format, was made against another base, or is not the one whose manifest
            lies beside the folder.
    """

    def __init__(self, directory: Path, base: Path, threads: int = 1) -> None:
        manifest = read_manifest(directory, declared=directory)
        if manifest.get("format") != DELTA_FORMAT:
            raise KnowshiftError(f"{directory} is in the format {shown(manifest.get('format'))}, not {DELTA_FORMAT}")
        if manifest.get("base") != base_identity(base):
            raise KnowshiftError(f"{directory} was made against other weights than those in {base}")
        # The pipeline keeps a copy of the manifest beside the folder, as delta.json beside delta/.
        copied = directory.with_name(f"{directory.name}.json")
        if copied.is_file() and copied.read_bytes() != (directory / MANIFEST).read_bytes():
            raise KnowshiftError(
                f"{directory} is another delta than {copied} says, as if two runs had been exchanged; rebuild"
                f" it with: snakemake --force {directory}"
            )
        self.threads = threads
        self._entries: dict[str, _Entry] = {}
        self._blobs: dict[str, StoredTensor] = {}
        for path in sorted(directory.glob("delta-*.safetensors")):
            self._blobs |= read_header(path)
            self._entries |= _read_entries(path)
        stored = WeightFiles(base)
        self.base = with_own_head(stored, self._entries)
        self.has_own_head = self.base is not stored
        self.added = read_header(directory / ADDED) if (directory / ADDED).is_file() else {}
        self._check_complete(directory)

    def _check_complete(self, directory: Path) -> None:
        """Check that there is a tensor for each of the base's, of its shape, and as many bytes as it is stated to have.

        Raises:
            KnowshiftError: names the first tensor of which this is not so.
        """
        for name in sorted({*self._entries, *self._blobs, *self.base.tensors, *self.added}):
            entry, blob, before = self._entries.get(name), self._blobs.get(name), self.base.tensors.get(name)
            whole = False
            if entry and blob and before:
                chunks, size = -(-math.prod(entry.shape) // CHUNK), sum(entry.chunks) or 1
                whole = tuple(entry.shape) == before.shape and len(entry.chunks) == chunks and blob.shape == (size,)
                if rows := self.added.get(name):
                    whole &= rows.shape[1:] == before.shape[1:] and rows.dtype == entry.dtype
            if not whole:
                raise KnowshiftError(
                    f"{directory} is damaged (what it holds of the tensor {name} does not fit the base); rebuild it"
                    f" with: snakemake --force {directory}"
                )

    @property
    def dtypes(self) -> dict[str, str]:
        """The types of the tensors after training, such as "float32", by name."""
        return {name: entry.dtype for name, entry in self._entries.items()}

    def names(self) -> list[str]:
        """List the names of the tensors, sorted."""
        return sorted(self._entries)

    def versions(self) -> Versions:
        """Return the model before and after training, in pieces that are decoded when they are read."""
        dtypes = self.dtypes
        ends = {name: np.cumsum([0, *entry.chunks]).tolist() for name, entry in self._entries.items()}

        def read(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            base = cast(self.base.piece(name, start, stop), self.base.tensors[name].dtype, dtypes[name])
            number = start // CHUNK  # pieces are chunks
            blob = read_piece(self._blobs[name], ends[name][number], ends[name][number + 1])
            return base, decode_chunk(base, blob.data)

        shapes = {name: tuple(self._entries[name].shape) for name in self.names()}
        return Versions(shapes, dtypes, read, self.base.no_parameters, self.added)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield (name, base, tuned) in the order of names, with one tensor in memory at a time.

        Both arrays are bit patterns of the type after training, in the tensor's shape; `added` holds further rows.

        Raises:
            KnowshiftError: a tensor is not the one that the delta was made of.
        """
        for name in self.names():
            entry, blob = self._entries[name], self._blobs[name]
            base = cast(self.base.read(name), self.base.tensors[name].dtype, entry.dtype)
            tuned = decode_tensor(base, read_piece(blob), entry.chunks, self.threads)
            if hashlib.sha256(tuned.data).hexdigest() != entry.sha256:
                raise KnowshiftError(f"tensor {name} in {blob.file} is damaged, or its base is; make the delta again")
            yield name, base, tuned


def open_others(base: Path, others: Iterable[Path]) -> list[Versions]:
    """Open further fine-tuned models of one base, each a delta or a model directory, and check their files.

    Raises:
        KnowshiftError: one does not belong to the base, or a file is damaged.
    """
    kinds = {path: "delta" if any(path.glob("delta-*.safetensors")) else "tuned" for path in others}
    return [open_versions(base, **{kind: path}) for path, kind in kinds.items()]


def open_versions(base: Path, tuned: Path | None = None, delta: Path | None = None) -> Versions:
    """Open a model before and after training, and check the files of directories that have a manifest.

    Args:
        base: the model directory before training.
        tuned: the model directory after training; either this or `delta` is given.
        delta: the delta directory.

    Raises:
        KnowshiftError: neither or both are given, what is given does not belong to the base, or a file is damaged.
    """
    if tuned is not None and delta is None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(manifest_of, [base, tuned]))
        return versions_in_directories(base, tuned)
    if delta is not None and tuned is None:
        manifest_of(base)
        return Delta(delta, base).versions()
    raise KnowshiftError("give the fine-tuned model either as a directory (--tuned) or as a delta (--delta)")
