"""What the machine costs, from a file of the organizer's."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from kit.errors import KitError
from kit.protocol import first_problem
from kit.results.record import Cost


def read_price(path: Path) -> Cost:
    """Read usd_per_hour, price_source and price_date from a YAML file.

    Raises:
        KitError: It cannot be read, or one of them is missing or wrong.
    """
    try:
        return Cost.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        raise KitError(f"{path}: expected usd_per_hour, price_source and price_date: {first_problem(error)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise KitError(f"{path}: {' '.join(str(error).split())}") from error
