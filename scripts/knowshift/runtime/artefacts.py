"""Writes files and directories so that they are complete or absent, and checks them when they are read.

An artefact is written beside its name and renamed on success. A directory has a `manifest.json`, written last, with the
sha256 of every file. Rules depend on the manifest, because Snakemake does not look inside directories.

Whoever writes an artefact holds a lock on its temporary file or directory, so one that nobody holds is what a killed
process left, and the next writer of the same artefact removes it.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.json_files import parse_json, read_json_object
from knowshift.runtime.user_files import read_text

MANIFEST = "manifest.json"
_UNLOCKED_SECONDS = 60  # a temporary file may be this old before it has to be locked by who writes it


def _remove(path: Path) -> None:
    """Remove a file or a directory tree; one that is gone, or cannot be removed, is left alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on an existing file or directory; a file system without locks is written to all the same."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files and directories that killed writers of an artefact left."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9]+\.partial")  # a process id: other names are the user's
    for partial in filter(lambda file: name.fullmatch(file.name), path.parent.glob(".*.partial")):
        with suppress(OSError):
            descriptor = os.open(partial, os.O_RDONLY)
            try:
                if time.time() - os.fstat(descriptor).st_mtime > _UNLOCKED_SECONDS:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(partial)
            finally:
                os.close(descriptor)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; it is renamed to `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.touch()
    try:
        with _locked(partial):
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


def _files_list(path: Path) -> Path:
    """Locate the list of the files that were written into a directory; Snakemake may remove the manifest in it."""
    return path.with_name(f".{path.name}.files")


def _stated(path: Path) -> Any:
    """Read what a file says was written; None if it says nothing."""
    try:
        value = parse_json(read_text(path, " does not exist"), str(path), distinct=False)
    except KnowshiftError:
        return None
    return list(filter(lambda name: isinstance(name, str), value)) if isinstance(value, list) else value


def check_replaceable(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Check that a directory may be written: it is absent, empty, or holds only what was written here before.

    Args:
        path: the directory to write.
        inputs: files and directories that are read for it.

    Raises:
        KnowshiftError: the directory is, holds or lies in an input, is a file, or holds files of somebody else.
    """
    inputs = list(inputs)
    try:
        place, *others = (given.resolve() for given in (path, *inputs))
    except (RuntimeError, OSError) as error:
        raise KnowshiftError(f"{path} or what is read for it is a link that leads nowhere ({error})") from None
    for given, other in zip(inputs, others, strict=True):
        if place == other or place in other.parents or other in place.parents:
            raise KnowshiftError(f"{path} is, holds or lies in {given}, which is read here; write to another folder")
    if path.is_symlink():
        path = place
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise KnowshiftError(f"{path} is a file; name a folder to write to")
    present = {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir() or file.is_symlink()}
    listed, manifest = _stated(_files_list(path)), _stated(path / MANIFEST)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    made = {MANIFEST, *(listed if isinstance(listed, list) else ()), *(files if isinstance(files, dict) else ())}
    if others := sorted(present - made):
        raise KnowshiftError(
            f"{path} holds {len(others)} files that were not written here (one is {others[0]}), so it is not replaced;"
            " write to another folder, or move it away"
        )


@contextmanager
def whole_directory(path: Path, about: Mapping[str, Any], inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a temporary directory beside `path` to fill; it gets a manifest and is renamed only if the block succeeds.

    The manifest holds no times and no names of machines, so equal content gives an equal manifest.

    Args:
        path: the directory to make; an earlier one is replaced, if it holds only what was written here. A link stays,
            and what it leads to is made.
        about: JSON values for the manifest, beside the list of files. They may be set until the block ends.
        inputs: files and directories that are read meanwhile.

    Raises:
        KnowshiftError: as `check_replaceable`.
    """
    check_replaceable(path, inputs)
    if path.is_symlink():
        path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    _remove(partial)
    partial.mkdir()
    try:
        with _locked(partial):
            yield partial
            files = {
                str(file.relative_to(partial)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
                for file in sorted(partial.rglob("*"))
                if file.is_file()
            }
            manifest = {**about, "files": files}
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            check_replaceable(path, inputs)
            write_text(_files_list(path), json.dumps(sorted(files)) + "\n")
            shutil.rmtree(path, ignore_errors=True)
            partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_inside(name: str) -> bool:
    """Tell whether the name of a file, relative to a folder, stays in it."""
    path = PurePosixPath(name)
    return name.isprintable() and bool(path.parts) and not path.is_absolute() and ".." not in path.parts


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
        manifest = read_json_object(path, remedy)
    except FileNotFoundError:
        raise KnowshiftError(f"{path} is missing, so {directory} is not complete; {remedy}") from None
    if not isinstance(manifest.get("files"), dict):
        raise KnowshiftError(
            f"{path} names no files, so it is not a manifest of knowshift: rename it, or use another folder"
        )
    for name, entry in manifest["files"].items():
        if not _is_inside(name):
            raise KnowshiftError(f"{path} names {name[:60]!r}, which lies outside {directory}; {remedy}")
        if not (isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and _is_sha256(entry.get("sha256"))):
            raise KnowshiftError(f"{path} has no size and sha256 of {name[:60]!r}, so it is damaged; {remedy}")
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


def _is_sha256(value: Any) -> bool:
    """Tell whether a value is a sha256 in hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64


def manifest_of(directory: Path, verify: bool = True, declared: Path | None = None) -> dict[str, Any] | None:
    """Read a directory's manifest as `read_manifest` does; None if it has none, as a model from elsewhere."""
    return read_manifest(directory, verify, declared) if (directory / MANIFEST).is_file() else None
