"""The one exception for what a user can mend: its message is shown as a single line, without a traceback."""


class KnowshiftError(Exception):
    """Says what is wrong, where, and what to do."""
