"""Digests of files that users edit see every byte, also behind an older time, and read a file once."""

import os
import time
from pathlib import Path

import pytest

from code_digests.content import ContentDigests


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A file of 5 MB that was written an hour ago, as far as its time of modification says."""
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(5_000_000))
    os.utime(path, (time.time() - 3600,) * 2)
    return path


def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ContentDigests:
    """Digests that keep what was hashed at once, as if the file had not changed just now."""
    monkeypatch.setattr("code_digests.content.SETTLED_SECONDS", 0)
    return ContentDigests(tmp_path / "kept/content.json")


def test_a_byte_in_the_middle_counts_and_so_does_a_file_with_an_older_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old_file: Path
) -> None:
    before = kept(monkeypatch, tmp_path).digest(old_file)
    with old_file.open("r+b") as file:
        file.seek(2_500_000)
        file.write(b"x")
    os.utime(old_file, (time.time() - 3600,) * 2)
    middle = kept(monkeypatch, tmp_path).digest(old_file)
    other = tmp_path / "other.bin"
    other.write_bytes(b"y" * 5_000_000)
    os.utime(other, (time.time() - 7200,) * 2)
    other.replace(old_file)
    assert len({before, middle, kept(monkeypatch, tmp_path).digest(old_file)}) == 3


def test_an_unchanged_file_is_not_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old_file: Path) -> None:
    first = kept(monkeypatch, tmp_path).digest(old_file)
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert kept(monkeypatch, tmp_path).digest(old_file) == first


def test_a_file_that_changed_just_now_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.write_text("one")
    digests = ContentDigests(tmp_path / "content.json")
    first = digests.digest(path)
    assert digests.digest(path) == first and not (tmp_path / "content.json").exists()


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe in the folder of a model would keep the Snakefile from being read for ever."""
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zeros.json").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    assert {*ContentDigests(tmp_path / "kept.json").digests(tmp_path.glob("*.json")).values()} == {""}


@pytest.mark.parametrize("damage", ["", "[]", '{"a": 1}', "\xff"])
def test_a_damaged_list_costs_time_alone(tmp_path: Path, old_file: Path, damage: str) -> None:
    (tmp_path / "content.json").write_text(damage)
    assert len(ContentDigests(tmp_path / "content.json").digest(old_file)) == 64
    assert ContentDigests(old_file / "no/folder.json").digest(tmp_path / "absent") == ""
