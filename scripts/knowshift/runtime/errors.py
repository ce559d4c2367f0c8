"""The exceptions that a script turns into a single line and an exit status, without a traceback."""


class KnowshiftError(Exception):
    """What a user can mend: says what is wrong, where, and what to do."""


class Interrupted(Exception):
    """The job was told to end, has saved what it did, and goes on from there when it is started again."""
