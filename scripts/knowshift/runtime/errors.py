"""Exceptions that a script reports in one line, with an exit status and without a traceback."""

import re

LONGEST = 100  # characters of a wrong value that a message shows
_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]*@")  # the user name and the password of a URL


def presentable(text: str) -> str:
    """Make a text one that may be printed, logged and kept: in one line, without passwords, and nothing but what it is.

    Whoever made a file chooses the names in it, and a terminal obeys control characters. So these are written as Python
    writes them, and so is half of a character, which could not be encoded.
    """
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
    return _CREDENTIALS.sub("…@", text)


class KnowshiftError(Exception):
    """An error that the user can correct; its message says what is wrong, where, and what to do.

    Args:
        message: one line, see `presentable`.
        further: further lines, where there is a list of problems.
    """

    def __init__(self, message: str, *further: str) -> None:
        super().__init__("\n".join(map(presentable, (message, *further))))


class Interrupted(Exception):
    """The job was told to end and has saved its work; started again, it resumes from there."""


def shown(value: object) -> str:
    """Write a wrong value as Python does, for a message: in one line, not at any length, and without passwords."""
    try:
        text = presentable(repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, or a list in a list without end
        return f"this {type(value).__name__}"
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def first_line(said: object) -> str:
    """Return the first line of what a library says, which may be an exception, a text or a list of texts.

    Where it says nothing, the name of its type stands for it.
    """
    text = str(next(iter(said)) if isinstance(said, list) else said).strip()
    return text.splitlines()[0].rstrip(": ") if text else type(said).__name__
