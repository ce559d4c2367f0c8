"""A text or CSV file that cannot be read as it is meant ends in one line; what spreadsheets write is read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.user_files import read_csv, read_text


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def fifo(path: Path) -> None:
    os.mkfifo(path)


NO_FILES: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: None, "is not there"),
    (Path.mkdir, "is a folder"),
    (link_to_itself, "cannot be read"),
    (fifo, "is no ordinary file"),
    (lambda path: path.write_bytes(b"\xff\xfea\x00"), "not UTF-8 (byte 0)"),
    (lambda path: path.write_bytes("é".encode("latin-1")), "not UTF-8 (byte 0)"),
    (lambda path: path.write_bytes("ab".encode("utf-16-le")), "null characters"),
    (lambda path: path.write_bytes(b"x" * 101), "larger than 100 bytes"),
]


@pytest.mark.parametrize(("make", "says"), NO_FILES, ids=[says for _, says in NO_FILES])
def test_what_is_no_text_file_is_said_in_one_line(tmp_path: Path, make: Callable, says: str) -> None:
    path = tmp_path / "file"
    make(path)
    with pytest.raises(KnowshiftError) as caught:
        read_text(path, " is not there", 100)
    assert says in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0)
    with pytest.raises(KnowshiftError, match="cannot be read"):
        read_text(tmp_path / "file", "")


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(KnowshiftError, match="cannot be read") as caught:
            read_text(tmp_path / name, "")
        assert "\0" not in str(caught.value)


ROWS = [{"a": "1", "b": "x, y", "c": ""}, {"a": "2", "b": "", "c": "z"}]
SPREADSHEETS = {
    "plain": 'a,b,c\n1,"x, y",\n2,,z\n',
    "byte order mark and CRLF": '\ufeffa,b,c\r\n1,"x, y",\r\n2,,z\r\n',
    "old Mac": 'a,b,c\r1,"x, y",\r2,,z\r',
    "semicolons": "a;b;c\n1;x, y;\n2;;z\n",
    "tabs": "a\tb\tc\n1\tx, y\t\n2\t\tz\n",
    "quoted semicolons": '"a";"b";"c"\n"1";"x, y";""\n"2";"";"z"\n',
    "quoted commas": '"a","b","c"\n"1","x, y",""\n"2","","z"\n',
    "empty rows": '\n,,\n , \na,b,c\n\n,,\n1,"x, y",\n , ,\t\n2,,z\n,,,,\n\n',
    "empty columns": 'a,,b,c,,\n1,,"x, y",,,\n2,,,z,,\n',
    "spaces around headings": ' a ,b\t, c\n1,"x, y",\n2,,z\n',
    "no line end": 'a,b,c\n1,"x, y",\n2,,z',
}


@pytest.mark.parametrize("content", SPREADSHEETS.values(), ids=SPREADSHEETS)
def test_what_spreadsheets_write_gives_the_same_rows(tmp_path: Path, content: str) -> None:
    (tmp_path / "f.csv").write_bytes(content.encode())
    assert [row for _, row in read_csv(tmp_path / "f.csv", "", ("a", "b"))] == ROWS


def test_a_short_row_lacks_its_last_cells_and_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text('a,b\n\n1\n"x\ny",2\n')
    assert list(read_csv(tmp_path / "f.csv", "", ("a",))) == [(3, {"a": "1"}), (5, {"a": "x\ny", "b": "2"})]


NO_CSV = [
    ("", "is empty; it needs a line of headings: a, b"),
    (" \n\n", "is empty"),
    (",,\n", "has no column a; it has "),
    ("a;c\n1;2\n", "has no column a; it has a;c"),
    ("a,b,a\n1,2,3\n", "has the column a twice"),
    ("a,b,c,c\n1,2,3,4\n", "has the column c twice"),
    ("a,b\n1,2,3\n", "line 2: more cells than the headings name"),
    ("a,b,\n1,2,3\n", "line 2: a cell has no heading"),
    ('a,b\n1,"2\n3\n', "line 3: unexpected end of data"),
    ('a,b\n1,"2"x\n', "line 2: ',' expected after '\"'"),
    ("a,b\n1," + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
]


@pytest.mark.parametrize(("content", "says"), NO_CSV, ids=range(len(NO_CSV)))
def test_what_is_no_csv_is_said_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "f.csv").write_text(content)
    with pytest.raises(KnowshiftError) as caught:
        list(read_csv(tmp_path / "f.csv", "", ("a", "b")))
    said = str(caught.value)
    assert says in said and str(tmp_path / "f.csv") in said and "\n" not in said and len(said) < 400
