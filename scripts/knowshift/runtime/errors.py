"""Exceptions that a script reports in one line, with an exit status and without a traceback."""


class KnowshiftError(Exception):
    """An error that the user can correct; its message says what is wrong, where, and what to do."""


class Interrupted(Exception):
    """The job was told to end and has saved its work; started again, it resumes from there."""


LONGEST = 100  # characters of a wrong value that a message shows


def shown(value: object) -> str:
    """Write a wrong value as Python does, for a message: in one line, and not at any length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or a list in a list without end
        return f"this {type(value).__name__}"
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
