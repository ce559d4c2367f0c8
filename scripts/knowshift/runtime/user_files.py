"""Reads the text files that users bring, and says in one line what is wrong with one.

Every text and CSV file that comes from outside passes here; `json_files` and `yaml_files` read through `read_text`
too.
"""

import csv
import io
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from knowshift.runtime.errors import KnowshiftError

LARGEST_FILE = 1 << 30  # bytes
DELIMITERS = (",", ";", "\t")  # spreadsheets write `;` where the comma divides decimals


def check_file(path: Path, missing: str, largest: int = LARGEST_FILE, remedy: str | None = None) -> None:
    """Check that a path is an ordinary file of a possible size.

    Args:
        path: the file.
        missing: what to say, after the path, where there is no such file.
        largest: size in bytes that the file may have.
        remedy: what to do where the file is not what it must be; None says it for each mistake.

    Raises:
        KnowshiftError: it is not.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise KnowshiftError(f"{path}{missing}") from None
    except (OSError, ValueError) as error:  # a link to itself, no permission; a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise KnowshiftError(f"{str(path)!r} cannot be read ({reason}); {remedy or 'name another file'}") from None
    if stat.S_ISDIR(status.st_mode):
        raise KnowshiftError(f"{path} is a folder; {remedy or 'name a file'}")
    if not stat.S_ISREG(status.st_mode):
        raise KnowshiftError(f"{path} is no ordinary file; {remedy or 'copy what it gives into one'}")
    if status.st_size > largest:
        end = f"; {remedy}" if remedy else ""
        raise KnowshiftError(f"{path}: larger than {largest:,} bytes, so it cannot be what is meant{end}")


def read_text(path: Path, missing: str, largest: int = LARGEST_FILE, remedy: str | None = None) -> str:
    """Read a text file in UTF-8; a byte order mark is left out, and line ends become line feeds.

    Args:
        path, missing, largest, remedy: as for `check_file`.

    Raises:
        KnowshiftError: as `check_file`, or the file cannot be read or is not text in UTF-8.
    """
    check_file(path, missing, largest, remedy)
    encoding = remedy or "save it in that encoding"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise KnowshiftError(f"{path}: not UTF-8 (byte {error.start}); {encoding}") from None
    except OSError as error:
        raise KnowshiftError(f"{path}: cannot be read ({error.strerror}); {remedy or 'name another file'}") from None
    if "\0" in text:
        raise KnowshiftError(f"{path}: holds null characters, so it is not text in UTF-8; {encoding}")
    return text


def read_csv(path: Path, missing: str, required: Sequence[str], delimiter: str = ",") -> Iterator[tuple[int, dict]]:
    """Read a CSV file with headings, as spreadsheets write it.

    Cells may be separated by another of `DELIMITERS` if the headings say so. Rows without any text are left out, and so
    are columns without a heading, as long as they are empty. White space around a heading does not count.

    Args:
        path: the file.
        missing: as for `read_text`.
        required: headings that the file must have.
        delimiter: what separates cells, if the headings can be read so.

    Yields:
        The number of a row's last line, and its cells by heading; a short row lacks its last cells.

    Raises:
        KnowshiftError: the file cannot be read, is not CSV, lacks a heading or gives one twice, or a row has more cells
            than there are headings.
    """
    lines = io.StringIO(read_text(path, missing)).readlines()
    if not any(line.strip() for line in lines):
        raise KnowshiftError(f"{path} is empty; it needs a line of headings: {', '.join(required)}")
    names, delimiter = _headings(lines, required, delimiter)
    if lacking := [name for name in required if name not in names]:
        raise KnowshiftError(f"{path} has no column {lacking[0]}; it has {', '.join(sorted(filter(None, names)))}")
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise KnowshiftError(f"{path} has the column {twice[0]} twice; remove or rename one of them")
    reader, headings_met = csv.reader(lines, delimiter=delimiter, strict=True), False
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not headings_met:
                headings_met = True
                continue
            if any(cell.strip() for cell in cells[len(names) :]):
                raise csv.Error(f"more cells than the headings name; put quotes around a cell that holds {delimiter!r}")
            row = dict(zip(names, cells, strict=False))
            if any(cell.strip() for name, cell in zip(names, cells, strict=False) if not name):
                raise csv.Error("a cell has no heading; name its column, or empty it")
            row.pop("", None)
            yield reader.line_num, row
    except csv.Error as error:
        raise KnowshiftError(f"{path}, line {reader.line_num}: {error}") from None


def _headings(lines: Sequence[str], required: Sequence[str], usual: str) -> tuple[list[str], str]:
    """Find the headings of a CSV file, and what separates its cells: the usual mark if no mark gives all headings."""
    found: dict[str, list[str]] = {}
    for mark in dict.fromkeys((usual, *DELIMITERS)):
        with suppress(csv.Error, StopIteration):
            cells = ([cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark, strict=True))
            found[mark] = next(filter(any, cells))
            if set(required) <= set(found[mark]):
                return found[mark], mark
    return found.get(usual, []), usual
