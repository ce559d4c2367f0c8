"""Writes files and directories so that they are complete or absent, and checks them when they are read.

An artefact is written beside its name and renamed on success. A directory has a `manifest.json`, written last, with the
sha256 of every file. Rules depend on the manifest, because Snakemake does not look inside directories.
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
    """Yield a temporary path beside `path` to write to; it is renamed to `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text to `path` in UTF-8, completely or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Compute the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_directory(path: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a temporary directory beside `path` to fill; it gets a manifest and is renamed only if the block succeeds.

    The manifest holds no times and no names of machines, so equal content gives an equal manifest.

    Args:
        path: the directory to make; an earlier one is replaced.
        about: JSON values for the manifest, beside the list of files. They may be set until the block ends.
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
        manifest = {**about, "files": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_manifest(directory: Path, verify: bool = True, declared: Path | None = None) -> dict[str, Any]:
    """Read the manifest of an artefact directory, and check every file against it.

    Args:
        directory: the artefact.
        verify: whether to compare the sha256 of files; their sizes are always compared.
        declared: the output that Snakemake knows the artefact by, if that is not its manifest.

    Returns:
        The manifest, with the sizes and hashes of files under `files`.

    Raises:
        KnowshiftError: the manifest or a file is missing, or a file differs from the manifest.
    """
    path = directory / MANIFEST
    remedy = f"rebuild it with: snakemake --force {declared or path}"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KnowshiftError(f"{path} is missing, so {directory} is not complete; {remedy}") from None
    except json.JSONDecodeError as error:
        raise KnowshiftError(f"{path} is damaged ({error}); {remedy}") from None
    if not (isinstance(manifest, dict) and isinstance(manifest.get("files"), dict)):
        raise KnowshiftError(
            f"{path} names no files, so it is not a manifest of knowshift: rename it, or use another folder"
        )
    files = {directory / name: entry for name, entry in manifest["files"].items()}

    def differs(file: Path) -> bool:
        """Tell whether a file has another size or another hash than its manifest says."""
        entry = files[file]
        return file.stat().st_size != entry["bytes"] or (verify and sha256_of(file) != entry["sha256"])

    for file in files:
        if not file.is_file():
            raise KnowshiftError(f"{file} is missing, though its manifest names it; {remedy}")
    with ThreadPoolExecutor() as pool:  # one thread hashes more slowly than disks read
        for file, damaged in zip(files, pool.map(differs, files), strict=True):
            if damaged:
                raise KnowshiftError(f"{file} is damaged (it differs from its manifest); {remedy}")
    return manifest


def manifest_of(directory: Path, verify: bool = True, declared: Path | None = None) -> dict[str, Any] | None:
    """Read a directory's manifest as `read_manifest` does; None if it has none, as a model from elsewhere."""
    return read_manifest(directory, verify, declared) if (directory / MANIFEST).is_file() else None
