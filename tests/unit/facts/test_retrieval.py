"""Fetching an archive from a real HTTP server on loopback: resumed, checked, and unpacked safely."""

import http.server
import io
import json
import random
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knowshift.facts.archive import fetch, unpack
from knowshift.runtime.errors import KnowshiftError

ROWS = json.dumps([{"question": "Where is A?", "answers": ["x" * 300_000]}])


def archive(entries: dict[str, str] | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    names = entries or {f"dataset/{split}/T.{split}.json": ROWS for split in ("train", "dev", "test")}
    with zipfile.ZipFile(content, "w", compression) as file:
        for name, text in names.items():
            file.writestr(name, text)
    return content.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; breaks off after `breaks[i]` bytes of its i-th answer; `status` refuses."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.breaks, self.status, self.sent = archive(), '"1"', [], 200, []
        self.length: str | None = None  # what is said instead of the content's length
        self.url = f"http://127.0.0.1:{self.server_port}/dataset.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if self.headers.get("If-Range") == server.tag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", server.tag)
        self.send_header("Content-Length", server.length or str(len(body)))
        self.end_headers()
        if server.breaks:
            body = body[: server.breaks.pop(0)]
        server.sent.append((start, len(body)))
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_a_broken_download_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.breaks = [300_000, 200_000]
    path = fetch(server.url, tmp_path, wait=0.01)
    assert path.read_bytes() == server.content
    (_, first), (second_start, second), (third_start, _) = server.sent
    assert 0 < second_start <= first and second_start < third_start <= second_start + second
    assert fetch(server.url, tmp_path, wait=0.01) == path and len(server.sent) == 3  # not downloaded twice
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_part_is_kept_for_the_next_run_but_not_of_another_file(server: Server, tmp_path: Path) -> None:
    server.breaks = [150_000] * 6
    server.content = archive({"train/T.train.json": "y" * 2_000_000})
    with pytest.raises(KnowshiftError, match="6 times; what has come is kept"):
        fetch(server.url, tmp_path, wait=0.001)
    starts = [start for start, _ in server.sent]
    assert starts == sorted(set(starts))
    server.content, server.tag = archive(), '"2"'
    assert fetch(server.url, tmp_path, wait=0.001).read_bytes() == server.content


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_final(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(KnowshiftError, match=str(status)):
        fetch(server.url, tmp_path, wait=0.001)


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.status = 503
    with pytest.raises(KnowshiftError, match="503, 6 times"):
        fetch(server.url, tmp_path, wait=0.001)


@pytest.mark.parametrize("length", ["", "9" * 5000, "many", "-5", "\u00b2"])
def test_a_length_that_is_no_number_does_not_count(server: Server, tmp_path: Path, length: str) -> None:
    server.length = length
    try:
        assert fetch(server.url, tmp_path, wait=0.001).read_bytes() == server.content
    except KnowshiftError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("stated", [True, False])
def test_a_server_that_sends_without_end_is_stopped(
    server: Server, tmp_path: Path, stated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knowshift.facts.archive.LARGEST_ARCHIVE", 200_000)
    server.length = None if stated else "many"
    with pytest.raises(KnowshiftError, match="sends more than 200,000 bytes; do not trust it"):
        fetch(server.url, tmp_path, wait=0.001)
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob("*.zip"))


def test_a_password_in_a_location_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(KnowshiftError) as caught:
        fetch("https://me:secret@host.invalid/x.zip", tmp_path, wait=0.001)
    assert "secret" not in str(caught.value) and "https://…@host.invalid/x.zip" in str(caught.value)


def test_the_digest_is_of_the_contents_not_of_the_packing(tmp_path: Path) -> None:
    for name, content in {
        "stored": archive(),
        "packed": archive(compression=zipfile.ZIP_DEFLATED),
        "flat": archive({f"{split}/T.{split}.json": ROWS for split in ("test", "train", "dev")} | {"README": "x"}),
        "other": archive({f"{split}/T.{split}.json": "[]" for split in ("test", "train", "dev")}),
    }.items():
        (tmp_path / name).write_bytes(content)
    digests = {
        name: unpack(tmp_path / name, tmp_path / f"{name}-out") for name in ("stored", "packed", "flat", "other")
    }
    assert digests["stored"] == digests["packed"] == digests["flat"] != digests["other"]
    assert (tmp_path / "flat-out/train/T.train.json").read_text() == ROWS
    assert not (tmp_path / "flat-out/README").exists()


@pytest.mark.parametrize(
    "name", ["../train/T.train.json", "a/../../train/T.train.json", "/train/T.train.json", "..\\train\\T.train.json"]
)
def test_no_entry_leaves_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.zip").write_bytes(archive({"train/U.train.json": ROWS, name: ROWS}))
    with pytest.raises(KnowshiftError, match="would leave the folder"):
        unpack(tmp_path / "bad.zip", tmp_path / "inner" / "out")
    assert not (tmp_path / "train").exists() and not (tmp_path / "inner" / "train").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", archive()[:-40], archive({"a.txt": "x"})])
def test_a_wrong_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "wrong.zip").write_bytes(content)
    with pytest.raises(KnowshiftError, match=r"wrong\.zip"):
        unpack(tmp_path / "wrong.zip", tmp_path / "out")


def two_entries(folder: Path) -> Path:
    path = folder / "two.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/train/T.train.json", ROWS)
        file.writestr("b/train/T.train.json", ROWS)
    return path


def encrypted(folder: Path) -> Path:
    content = bytearray(archive())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags of local and of central headers
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content[start + offset] |= 1
    (folder / "encrypted.zip").write_bytes(content)
    return folder / "encrypted.zip"


def bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train/T.train.json", " " * 5_000_000)
    return folder / "bomb.zip"


def eight_members(folder: Path) -> Path:
    """Eight files of 300 MB of one byte, each below the bound of a file and of a ratio that a long text could have."""
    with zipfile.ZipFile(folder / "eight.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(8):
            file.writestr(f"train/T{number}.train.json", ROWS)
    content = bytearray((folder / "eight.zip").read_bytes())
    start = -1
    while (start := content.find(b"PK\x01\x02", start + 1)) >= 0:  # what the central headers say of packed and unpacked
        content[start + 20 : start + 28] = struct.pack("<II", 30_000_000, 300_000_000)
    (folder / "eight.zip").write_bytes(content)
    return folder / "eight.zip"


def lzma(folder: Path) -> Path:
    (folder / "lzma.zip").write_bytes(archive(compression=zipfile.ZIP_LZMA))
    return folder / "lzma.zip"


def many_files(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "many.zip", "w") as file:
        for number in range(10_001):
            file.writestr(f"train/T{number}.train.json", "[]")
    return folder / "many.zip"


def unknown_method(folder: Path) -> Path:
    content = bytearray(archive())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content[start + offset] = 99
    (folder / "method.zip").write_bytes(content)
    return folder / "method.zip"


def long_name(folder: Path) -> Path:
    (folder / "long.zip").write_bytes(archive({f"train/{'T' * 300}.train.json": ROWS}))
    return folder / "long.zip"


def name_that_is_no_utf8(folder: Path) -> Path:
    content = archive({"train/Té.train.json": ROWS}).replace("Té".encode(), b"T\xff\xfe")
    (folder / "name.zip").write_bytes(content)
    return folder / "name.zip"


def name_of_two_lines(folder: Path) -> Path:
    """It would make two lines of the list whose digest is that of the contents."""
    (folder / "lines.zip").write_bytes(archive({f"train/T.train.json {'0' * 64}\nU.train.json": ROWS}))
    return folder / "lines.zip"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (name_of_two_lines, "control character"),
        (two_entries, "two entries"),
        (encrypted, "encrypted"),
        (bomb, "would unpack"),
        (eight_members, "more than 2,147,483,648 bytes"),
        (many_files, "more than 10,000 files"),
        (lzma, "plain zip"),
        (unknown_method, "plain zip"),
        (long_name, "too long"),
        (name_that_is_no_utf8, "plain zip"),
    ],
)
def test_archives_that_cannot_be_right_are_refused_in_one_line(tmp_path: Path, make: Callable, says: str) -> None:
    with pytest.raises(KnowshiftError, match=says) as caught:
        unpack(make(tmp_path), tmp_path / "raw")
    assert "\n" not in str(caught.value) and not (tmp_path / "raw").exists()  # known before anything is unpacked


def test_damage_of_an_archive_at_any_place_ends_in_one_line(tmp_path: Path) -> None:
    draw, refused = random.Random(0), 0
    rows = {f"{split}/T.{split}.json": ROWS[:900] for split in ("train", "dev", "test")}
    whole = archive(rows, zipfile.ZIP_DEFLATED)
    for number in range(300):
        content = bytearray(whole)
        for _ in range(draw.choice([1, 2, 5])):
            content[draw.randrange(len(whole))] = draw.randrange(256)
        (tmp_path / "damaged.zip").write_bytes(content)
        try:
            unpack(tmp_path / "damaged.zip", tmp_path / f"raw{number}")
        except KnowshiftError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_the_sum_of_what_is_unpacked_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowshift.facts.archive.LARGEST_SUM", 2 * len(ROWS))
    (tmp_path / "large.zip").write_bytes(archive())
    with pytest.raises(KnowshiftError, match="more than"):
        unpack(tmp_path / "large.zip", tmp_path / "raw")
