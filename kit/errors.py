"""The error that is not a bug."""


class KitError(Exception):
    """Something that the user gave is wrong: the command line prints the message and exits with status 2.

    The message says in one line what was expected, what was given and what to do.
    """
