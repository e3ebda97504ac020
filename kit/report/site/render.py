"""Pages from templates: everything that is not a template's own is escaped."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.report.site.words import FILTERS, shown
from kit.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")


@cache
def environment() -> "Environment":
    """Templates that escape by themselves, and know no name that was not given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= FILTERS
    # tojson writes <, >, & and ' as \u003c and so on: no text ends the script element that holds it.
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    made.globals["kit_version"] = __version__
    return made


def render(template: str, depth: int, **content: Any) -> str:
    """A page.

    Args:
        template: Its file.
        depth: In how many folders the page lies: links are relative, so that a site works from any place.
        content: What the template shows.
    """
    return environment().get_template(template).render(root="../" * depth, **content)
