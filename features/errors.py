"""The one error for data that a caller must mend."""


class InputError(ValueError):
    """A table, log or configuration that cannot be used as it stands.

    The message says what is wrong, where, what was found, what was expected, how many rows
    are concerned, and what to do. The command prints it and exits with status 2.
    """
