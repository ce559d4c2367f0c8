"""Digests of files that users edit, taken whole whenever the Snakefile is read.

A file that was hashed before is not read again while its size, times and inode stay as they were. What was hashed is
kept in a file below `.snakemake`, which may be deleted at any time.
"""

import hashlib
import json
import stat
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from knowshift.runtime.artefacts import sha256_of, write_text

MODEL_FILES = ("*.safetensors", "*.json", "tokenizer.model", "*.txt", "*.jinja")
SETTLED_SECONDS = 2  # a file that changed so recently may change again within one tick of its clock
Stamp = list[int]  # size in bytes, time of modification and of status change in nanoseconds, inode


class ContentDigests:
    """Digests of files by content, with what was found in earlier runs.

    Args:
        kept: the JSON file that holds what was hashed before.
    """

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        self._known: dict[str, tuple[Stamp, str]] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):
            stored = json.loads(kept.read_text(encoding="utf-8"))
            self._known = {str(name): (list(stamp), str(digest)) for name, (stamp, digest) in stored.items()}

    def digests(self, paths: Iterable[Path]) -> dict[Path, str]:
        """Map each path to the sha256 of its file, in hexadecimal digits; a path without a readable file to "".

        Args:
            paths: files.
        """
        paths = list(paths)
        with ThreadPoolExecutor() as pool:
            taken = list(pool.map(self._take, paths))
        if any(fresh for _, fresh in taken):
            self._save()
        return {path: digest for path, (digest, _) in zip(paths, taken, strict=True)}

    def digest(self, path: Path) -> str:
        """Return the sha256 of one file, as `digests` does."""
        return self.digests([path])[path]

    def _take(self, path: Path) -> tuple[str, bool]:
        """The digest of a file, and whether it was read and may be kept."""
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe or a device would never end
                return "", False
            stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
            name = str(path.resolve())
            known = self._known.get(name)
            if known and known[0] == stamp:
                return known[1], False
            digest = sha256_of(path)
        except OSError:
            return "", False
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < SETTLED_SECONDS * 10**9:
            return digest, False
        self._known[name] = (stamp, digest)
        return digest, True

    def _save(self) -> None:
        """Keep what was hashed. A folder that cannot be written to costs time at the next start, and nothing else."""
        with suppress(OSError):
            write_text(self._kept, json.dumps(self._known))


def directory_digest(path: Path, content: ContentDigests, code: bool = False) -> str:
    """Return a digest of a model directory's content, taken whole; files that stayed as they were are not read again.

    Args:
        path: the model directory.
        content: digests of files.
        code: whether its Python files count too.
    """
    patterns = (*MODEL_FILES, *(["*.py"] if code else []))
    files = sorted({file for pattern in patterns for file in path.glob(pattern)})
    found = content.digests(files)
    return hashlib.sha256("".join(f"{file.name}\0{found[file]}\n" for file in files).encode()).hexdigest()
