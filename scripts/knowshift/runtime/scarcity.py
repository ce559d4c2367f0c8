"""Tells the lack of disk space or of memory from other errors, whoever raised it, and ends a process with one line."""

import errno
import os
import re
import sys
from typing import NoReturn

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file is too large",
}
_DISK_ADVICE = "free some space and start again; what was finished is kept"
_MEMORY_ADVICE = (
    "give the job more (the resource mem_mb, or a larger machine or GPU), or set a smaller tokens_per_pass; what was"
    " finished is kept"
)
# What torch, C++ and the loader of libraries say, who have no type for it that Python knows.
_MEMORY_TEXT = re.compile(
    r"can't allocate memory|Cannot allocate memory|out of memory|bad_alloc|bad allocation|can't start new thread"
    r"|CUBLAS_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_DISK_TEXT = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)


def lack_of(error: BaseException) -> str | None:
    """Say in one line that disk space or memory was lacking; None if an error comes from anything else.

    Errors that were raised while another was handled, or because of it, are looked at too: a library may hide the first
    in one of its own.

    Args:
        error: the error.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if said := _lack(link):
            return said
        link = link.__cause__ or link.__context__
    return None


def _lack(error: BaseException) -> str | None:
    """What one error says that was lacking."""
    number = error.errno if isinstance(error, OSError) else None
    text = (str(error).strip().splitlines() or [""])[0]
    if number in _DISK or _DISK_TEXT.search(text):
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return f"{_DISK.get(number or 0, 'the disk is full')}{where}; {_DISK_ADVICE}"
    unnamed = isinstance(error, RuntimeError | OSError | ImportError | SystemError) and _MEMORY_TEXT.search(text)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or unnamed:
        return f"memory is used up ({text or type(error).__name__}); {_MEMORY_ADVICE}"
    return None


def end_with(line: str, status: int = 1) -> NoReturn:
    """Print a line to standard error and end the process; where the log is on a full disk, print it to standard output.

    What a log could not take is dropped, or Python would fail at it once more at its end, with another status.
    """
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            print(line, flush=True)
        except OSError:
            os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    raise SystemExit(status) from None
