"""The error that is not a bug."""


class KitError(Exception):
    """Something that the user gave is wrong: the command line prints the message and exits with status 2.

    The message says in one line what was expected, what was given and what to do. Characters of file names that would
    break the line, or that a terminal would obey, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(escaped(message))


def escaped(text: str) -> str:
    """A stranger's words in one line, with nothing in it that a terminal would obey."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def without_place(error: KitError, place: object) -> str:
    """What an error says, without the path that it begins with: for pages that are read elsewhere."""
    return str(error).removeprefix(escaped(f"{place}"))
