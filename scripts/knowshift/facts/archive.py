"""Fetches an archive of raw question files, with resumption and retries, and unpacks it safely.

The download is ours because pooch does not resume a broken one.
"""

import errno
import hashlib
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from knowshift.facts.source_rows import SPLITS
from knowshift.runtime.artefacts import check_replaceable, sha256_of, whole_directory
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.progress import progress

ATTEMPTS = 6
TIMEOUT = 60  # seconds without any data
LARGEST_ARCHIVE = 2 << 30  # bytes that are downloaded
LARGEST_FILE = 1 << 30  # bytes that a file may have unpacked
LARGEST_SUM = 2 << 30  # bytes that all files together may have unpacked
MOST_FILES = 10_000
LONGEST_NAME = 255  # bytes of a file's name that file systems take
LARGEST_RATIO = 200  # of unpacked to packed bytes, of a file over a mebibyte; question files reach about 10


class _ConnectionFailed(Exception):
    """The connection failed in a way that another attempt may not."""


def retrieve(location: str, downloads: Path, output: Path, contents_sha256: str | None) -> str:
    """Fetch an archive and unpack it, checking what it contains.

    Args:
        location: URL or path of the archive.
        downloads: folder for the download, see `fetch`.
        output: folder for the raw files, which gets a manifest.
        contents_sha256: digest that the contents must have, see `unpack`; None accepts any.

    Returns:
        The digest of the contents.

    Raises:
        KnowshiftError: it cannot be fetched or unpacked, or contains something else. A download is removed then, so
            that the next attempt downloads it again.
    """
    check_replaceable(output, [Path(location)] if Path(location).exists() else [])
    archive = fetch(location, downloads)
    facts: dict[str, str] = {"kind": "raw questions"}
    try:
        with whole_directory(output, facts) as directory:
            facts["contents_sha256"] = digest = unpack(archive, directory)
            if contents_sha256 not in (None, digest):
                raise KnowshiftError(
                    f"{location} has contents of sha256 {digest}, not the {contents_sha256} of "
                    "facts.contents_sha256; mend the location, or the digest if the new contents are meant"
                )
    except KnowshiftError:
        if archive != Path(location):
            archive.unlink(missing_ok=True)
        raise
    return digest


def fetch(location: str, folder: Path, wait: float = 1.0) -> Path:
    """Download an archive, or find it on disk.

    Args:
        location: a URL that begins with http:// or https://, or the path of a local file.
        folder: keeps the download. Its incomplete part stays there as well, and the next call resumes it.
        wait: seconds before the second attempt; the wait doubles with each further attempt.

    Returns:
        The path of the archive.

    Raises:
        KnowshiftError: there is no such file, the server refuses, or the connection failed too often.
    """
    if not location.startswith(("http://", "https://")):
        if not Path(location).is_file():
            raise KnowshiftError(f"facts.path: {location} is not a file; give the path or the URL of the archive")
        return Path(location)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{hashlib.sha256(location.encode()).hexdigest()[:16]}.zip"
    attempt = retry(
        retry=retry_if_exception_type(_ConnectionFailed),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=wait, max=60),
        reraise=True,
    )(_download)
    try:
        if not target.exists():
            attempt(location, target)
    except _ConnectionFailed as error:
        raise KnowshiftError(f"{location}: {error}, {ATTEMPTS} times; what has come is kept, so run it again") from None
    return target


def _download(url: str, target: Path) -> None:
    """Try to download `url` once, from where the last attempt ended.

    The server's entity tag tells whether it still has the same file; if not, it sends the file from the beginning.
    """
    part, tag = target.with_suffix(".part"), target.with_suffix(".etag")
    have = part.stat().st_size if part.exists() and tag.exists() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": tag.read_text(encoding="utf-8")} if have else {}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code in (408, 429) or answer.status_code >= 500:
                raise _ConnectionFailed(f"the server answered {answer.status_code}")
            if answer.status_code == 416:  # the part is at least as long as the file: start again
                part.unlink(missing_ok=True)
                raise _ConnectionFailed("the server has no such part of the file")
            if not answer.ok:
                raise KnowshiftError(f"{url}: the server answered {answer.status_code} {answer.reason}")
            resumed = answer.status_code == 206
            if entity := answer.headers.get("ETag"):
                tag.write_text(entity, encoding="utf-8")
            else:
                tag.unlink(missing_ok=True)
            start = have if resumed else 0
            stated = answer.headers.get("Content-Length", "")
            size = start + (int(stated) if stated.isdecimal() and len(stated) < 20 else 0)
            _check_size(url, size, part)
            with (
                part.open("ab" if resumed else "wb") as file,
                progress(what="downloading", unit="bytes", total=size) as bar,
            ):
                bar.update(start)
                for block in answer.iter_content(1 << 16):
                    _check_size(url, file.tell() + len(block), part)  # whatever the server stated
                    file.write(block)
                    bar.update(len(block))
    except requests.RequestException as error:
        raise _ConnectionFailed(f"the connection failed ({type(error).__name__})") from None
    part.replace(target)
    tag.unlink(missing_ok=True)


def _check_size(url: str, size: int, part: Path) -> None:
    """Check that a download is not larger than an archive of question files can be; what has come of it goes."""
    if size > LARGEST_ARCHIVE:
        part.unlink(missing_ok=True)
        raise KnowshiftError(f"{url}: the server sends more than {LARGEST_ARCHIVE:,} bytes; do not trust it")


def _question_files(source: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """Find the entries of an archive that are question files, by the name that they get, before any is unpacked.

    Raises:
        KnowshiftError: as `unpack`.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for member in source.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
            raise KnowshiftError(f"{archive}: the entry {member.filename!r} would leave the folder; do not trust it")
        split = path.parent.name
        if split not in SPLITS or not path.name.endswith(f".{split}.json") or member.is_dir():
            continue
        _check_member(member, archive)
        name = f"{split}/{path.name}"
        if name in found:
            raise KnowshiftError(f"{archive} holds two entries for {name}; leave one of them")
        found[name] = member
    if sum(member.file_size for member in found.values()) > LARGEST_SUM:
        raise KnowshiftError(f"{archive} would unpack to more than {LARGEST_SUM:,} bytes; do not trust it")
    if len(found) > MOST_FILES:
        raise KnowshiftError(f"{archive} would unpack to more than {MOST_FILES:,} files; do not trust it")
    return found


def _check_member(member: zipfile.ZipInfo, archive: Path) -> None:
    """Check that an entry is packed as question files are, and not larger than they can be, nor its name longer."""
    if not member.filename.isprintable():  # a line feed would also make two lists of contents look alike
        raise KnowshiftError(f"{archive}: the name {member.filename[:60]!r} holds a control character; do not trust it")
    if len(PurePosixPath(member.filename).name.encode()) > LONGEST_NAME:
        raise KnowshiftError(f"{archive}: the name {member.filename[:60]!r}… is too long for a file; give it another")
    if member.flag_bits & 1:
        raise KnowshiftError(f"{archive}: {member.filename!r} is encrypted; pack the archive without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise KnowshiftError(f"{archive}: {member.filename!r} cannot be unpacked; pack it again as a plain zip")
    large = member.file_size > LARGEST_FILE
    if large or member.file_size > max(1 << 20, LARGEST_RATIO * member.compress_size):
        raise KnowshiftError(
            f"{archive}: {member.filename!r} would unpack to {member.file_size:,} bytes; do not trust it"
        )


def unpack(archive: Path, output: Path) -> str:
    """Unpack the question files `…/{split}/{topic}.{split}.json` of a zip archive to `output/{split}/`.

    Returns:
        The digest of the contents: the sha256 of a list of all unpacked files, sorted by name, with their own
        sha256.
        It does not depend on how the archive was packed.

    Raises:
        KnowshiftError: the file is not a zip archive; it holds a link, huge, encrypted or duplicate files, or
            a name that leads out of `output`; or it holds no question files.
    """
    found: dict[str, str] = {}
    try:
        with zipfile.ZipFile(archive) as source:
            for name, member in _question_files(source, archive).items():
                target = output / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with source.open(member) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file)
                found[name] = sha256_of(target)
    except zipfile.BadZipFile as error:
        raise KnowshiftError(f"{archive} is not a complete zip archive ({error})") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # which reading before the file's beginning gives
            raise
        raise KnowshiftError(f"{archive} is not a complete zip archive ({error.strerror})") from None
    except (NotImplementedError, zlib.error, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise KnowshiftError(f"{archive} cannot be unpacked ({error}); pack it again as a plain zip") from None
    if not found:
        raise KnowshiftError(f"{archive} holds no files of the form {{train,dev,test}}/TOPIC.{{split}}.json")
    lines = "".join(f"{name} {found[name]}\n" for name in sorted(found))
    return hashlib.sha256(lines.encode()).hexdigest()
