"""Models with the largest or smallest numbers that they admit, wherever they hold a number."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Some = TypeVar("Some", bound=BaseModel)

LARGE: tuple[float, ...] = (10**400, 1e308, *(10.0**power for power in range(300, 0, -1)), 10**6, 1)
SMALL: tuple[float, ...] = (-(10**400), -1e308, -1e12, -300, 5e-324, *(10.0**power for power in range(-300, 0)), 0)


def extreme(model: Some, numbers: Sequence[float], keep: Sequence[str] = ()) -> Some:
    """The same with the first of these numbers that is admitted, in each place.

    Args:
        model: To start from.
        numbers: To try, in this order; an integer's place is given whole ones.
        keep: Names of fields that stay as they are.
    """
    content = json.loads(model.model_dump_json())
    for *way, last in list(_places(content, frozenset(keep))):
        holder = content
        for step in way:
            holder = holder[step]
        before = holder[last]
        for number in numbers:
            whole = isinstance(before, int)
            holder[last] = int(number) if whole else number
            try:
                type(model).model_validate_json(json.dumps(content))
            except ValidationError:
                continue
            break
        else:
            holder[last] = before
    return type(model).model_validate_json(json.dumps(content))


def _places(value: Any, keep: frozenset[str], way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in keep:
                yield from _places(item, keep, (*way, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places(item, keep, (*way, index))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield way
