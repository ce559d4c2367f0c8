"""Artefacts are whole or absent: written beside their name, renamed into place on success.

Directories carry a `manifest.json` with a sha256 per file, written last. Rules depend on the manifest (Snakemake never
looks inside directories); readers verify what they read against it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knowshift.runtime.errors import KnowshiftError

MANIFEST = "manifest.json"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; it becomes `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_directory(path: Path, facts: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a directory beside `path` to fill; on success it gets a manifest with `facts` and becomes `path`.

    The manifest holds no times and no names of machines, so the same content gives the same manifest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        files = {
            str(file.relative_to(partial)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
            for file in sorted(partial.rglob("*"))
            if file.is_file()
        }
        manifest = {**facts, "files": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_manifest(directory: Path, verify: bool = True, declared: Path | None = None) -> dict[str, Any]:
    """The manifest of an artefact directory, after checking every file against it.

    Args:
        verify: compare contents; sizes are compared always.
        declared: what Snakemake knows the artefact by, where that is not its manifest.

    Raises:
        KnowshiftError: the manifest or a file is missing, or a file is not the one the manifest names.
    """
    path = directory / MANIFEST
    remedy = f"rebuild it with: snakemake --force {declared or path}"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KnowshiftError(f"{path} is missing, so {directory} is not whole; {remedy}") from None
    except json.JSONDecodeError as error:
        raise KnowshiftError(f"{path} is damaged ({error}); {remedy}") from None
    if not (isinstance(manifest, dict) and isinstance(manifest.get("files"), dict)):
        raise KnowshiftError(
            f"{path} names no files; it is not a manifest of knowshift: rename it, or take another folder"
        )
    files = {directory / name: entry for name, entry in manifest["files"].items()}

    def differs(file: Path) -> bool:
        entry = files[file]
        return file.stat().st_size != entry["bytes"] or (verify and sha256_of(file) != entry["sha256"])

    for file in files:
        if not file.is_file():
            raise KnowshiftError(f"{file} is missing, though its manifest names it; {remedy}")
    with ThreadPoolExecutor() as pool:  # disks give more than one thread hashes
        for file, damaged in zip(files, pool.map(differs, files), strict=True):
            if damaged:
                raise KnowshiftError(f"{file} is damaged (it differs from its manifest); {remedy}")
    return manifest


def manifest_of(directory: Path, verify: bool = True, declared: Path | None = None) -> dict[str, Any] | None:
    """`read_manifest` of a directory that may have no manifest, as a model from elsewhere; None where it has none."""
    return read_manifest(directory, verify, declared) if (directory / MANIFEST).is_file() else None
