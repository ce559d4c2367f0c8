"""Exceptions that a script reports in one line, with an exit status and without a traceback."""


class KnowshiftError(Exception):
    """An error that the user can correct; its message says what is wrong, where, and what to do."""


class Interrupted(Exception):
    """The job was told to end and has saved its work; started again, it resumes from there."""
