"""Text of somebody else's, for a terminal."""

import re

from rich.markup import escape as without_markup

from kit.protocol import printable


def escape(text: str) -> str:
    """Text as it reads, whatever it would have a terminal do."""
    return without_markup(printable(text))


def escape_line(text: str) -> str:
    """The same where a line must stay one."""
    return escape("\N{REPLACEMENT CHARACTER}".join(re.split(r"[\n\t]", text)))
