"""The delta artefact: what fine-tuning changed, lossless and compressed.

base + delta = tuned, bit for bit, for every dtype. Per chunk of a tensor the two bit patterns are read as integers and
subtracted; small differences of either sign become small unsigned numbers (zig-zag). Training moves parameters by similar
amounts, so in units of the last place those of one exponent move alike: the differences are put in the order of the
base's exponents, which the reader knows, and stored byte plane by byte plane under zstd. A delta knows the identity of
its base and refuses any other. It knows no shares, regions or strategies: no later question asks for it to be made again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
from safetensors import safe_open

from knowshift.runtime.artefacts import manifest_of, read_manifest, sha256_of
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.bit_patterns import WIDTHS, all_finite, cast
from knowshift.weights.delta_codec import CHUNK, decode_chunk, encode_chunk
from knowshift.weights.safetensors_files import Place, Weights, read_header, read_piece, write_safetensors
from knowshift.weights.versions import Pairs, Piece, of_directories

DELTA_FORMAT = "knowshift-delta-2"  # stands in rules/finetuning.smk too
BLOCK = 1 << 22  # bytes that are copied at a time


def base_identity(base: Path) -> str:
    """The identity of a model's weights: a hash over the hashes of its safetensors files."""
    if manifest := manifest_of(base, verify=False):
        files = manifest["files"].items()
        hashes = {name: entry["sha256"] for name, entry in files if name.endswith(".safetensors")}
    else:
        hashes = {path.name: sha256_of(path) for path in base.glob("*.safetensors")}
    return hashlib.sha256(json.dumps(sorted(hashes.values())).encode()).hexdigest()


def encode(pieces: Iterable[Piece], write: Callable[[bytes], object], threads: int = 1) -> dict:
    """Compress one tensor against its base; a few pieces are in memory at a time.

    Args:
        pieces: of `CHUNK` elements, but for the last.
        write: gets the compressed bytes, one piece after another.

    Returns:
        What is needed to decode them besides type and shape: chunk sizes, sha256 of the tuned bytes.

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


def decode(base: np.ndarray, blob: np.ndarray, chunks: list[int], threads: int = 1) -> np.ndarray:
    """The tuned tensor in the shape of the base, which is given in the type of the tuned one."""
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

    Returns:
        Facts for the manifest: format, base identity, bytes before and after.

    Raises:
        KnowshiftError: the models differ in the names or shapes of their tensors, or a value is not finite.
    """
    pairs, identity = of_directories(base, tuned), base_identity(base)
    for number, names in enumerate(Weights(tuned).shards().values(), 1):
        entries, places = {}, {}
        with TemporaryFile(dir=output) as file:  # sizes stand before the bytes
            for name in names:
                start = file.tell()
                entry = encode(pairs.pieces(name, 0, pairs.parameters(name)), file.write, threads)
                if not entry["chunks"]:
                    file.write(b"\0")  # a tensor needs a byte
                entries[name] = {"dtype": pairs.dtypes[name], "shape": list(pairs.shapes[name]), **entry}
                places[name] = start, file.tell()

            def stored(name: str, file: BinaryIO = file, places: Mapping = places) -> Iterator[np.ndarray]:
                start, stop = places[name]
                file.seek(start)
                for first in range(start, stop, BLOCK):
                    yield np.frombuffer(file.read(min(BLOCK, stop - first)), np.uint8)

            header = {"format": DELTA_FORMAT, "base": identity, "tensors": json.dumps(entries, sort_keys=True)}
            sizes = {name: ("uint8", (stop - start,)) for name, (start, stop) in places.items()}
            write_safetensors(output / f"delta-{number:05d}.safetensors", sizes, stored, header)
    raw = sum(pairs.parameters(name) * WIDTHS[dtype] for name, dtype in pairs.dtypes.items())
    return {"format": DELTA_FORMAT, "base": identity, "tuned_bytes": raw}


class Delta:
    """A delta directory, readable a tensor or a piece of one at a time.

    Raises:
        KnowshiftError: the delta is of another format, or was made against another base.
    """

    def __init__(self, directory: Path, base: Path, threads: int = 1) -> None:
        manifest = read_manifest(directory, declared=directory)
        if manifest.get("format") != DELTA_FORMAT:
            raise KnowshiftError(f"{directory} is in the format {manifest.get('format')}, not {DELTA_FORMAT}")
        if manifest["base"] != base_identity(base):
            raise KnowshiftError(f"{directory} was made against other weights than those in {base}")
        self.base, self.threads = Weights(base), threads
        self._entries: dict[str, dict] = {}
        self._places: dict[str, Place] = {}
        for path in sorted(directory.glob("delta-*.safetensors")):
            with safe_open(path, "np") as file:
                self._entries |= json.loads(file.metadata()["tensors"])
            self._places |= read_header(path)

    @property
    def dtypes(self) -> dict[str, str]:
        """The types of the tuned tensors, such as "float32", by name."""
        return {name: entry["dtype"] for name, entry in self._entries.items()}

    def names(self) -> list[str]:
        """Tensor names, sorted."""
        return sorted(self._entries)

    def pairs(self) -> Pairs:
        """The base and the tuned model, in pieces that are decoded when they are read."""
        dtypes = self.dtypes
        ends = {name: np.cumsum([0, *entry["chunks"]]).tolist() for name, entry in self._entries.items()}

        def read(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            base = cast(self.base.piece(name, start, stop), self.base.places[name].dtype, dtypes[name])
            number = start // CHUNK  # pieces are chunks
            blob = read_piece(self._places[name], ends[name][number], ends[name][number + 1])
            return base, decode_chunk(base, blob.data)

        return Pairs({name: tuple(self._entries[name]["shape"]) for name in self.names()}, dtypes, read)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(name, base, tuned) in the order of names, as bit patterns of the tuned type; one pair in memory at a time."""
        for name in self.names():
            entry = self._entries[name]
            base = cast(self.base.read(name), self.base.places[name].dtype, entry["dtype"])
            place = self._places[name]
            tuned = decode(base, read_piece(place), entry["chunks"], self.threads)
            if hashlib.sha256(tuned.data).hexdigest() != entry["sha256"]:
                raise KnowshiftError(f"tensor {name} in {place.file} is damaged, or its base is; make the delta again")
            yield name, base, tuned


def open_pairs(base: Path, tuned: Path | None = None, delta: Path | None = None) -> Pairs:
    """A model before and after training, the latter from its directory or from a delta; what has a manifest is checked.

    Raises:
        KnowshiftError: neither or both are given, what is given does not belong to the base, or a file is damaged.
    """
    if (tuned is None) == (delta is None):
        raise KnowshiftError("give the fine-tuned model either as a directory (--tuned) or as a delta (--delta)")
    with ThreadPoolExecutor() as pool:
        list(pool.map(manifest_of, [base, tuned] if tuned else [base]))
    return of_directories(base, tuned) if delta is None else Delta(delta, base).pairs()
