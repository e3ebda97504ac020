"""What ships with the kit, and tracks by their names."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

import kit
from kit.errors import KitError
from kit.protocol import first_problem
from kit.track import Track


def shipped(name: Literal["conf", "baselines", "submissions"]) -> Path:
    """A folder that ships with the kit: beside the modules when installed, at the top of a checkout."""
    package = Path(kit.__file__).parent
    installed = package / "_shipped" / name
    return installed if installed.is_dir() else package.parent / name


def track_names() -> list[str]:
    """The tracks that ship with the kit."""
    return sorted(path.stem for path in (shipped("conf") / "track").glob("*.yaml"))


def load_track(option: str) -> Track:
    """A track by its name, or from a file of the user's own.

    Raises:
        KitError: There is none, or what it says is wrong.
    """
    path = Path(option) if option.endswith(".yaml") else shipped("conf") / "track" / f"{option}.yaml"
    try:
        return Track.model_validate(yaml.safe_load(path.read_text()))
    except FileNotFoundError:
        raise KitError(
            f"there is no track '{option}'; known: {', '.join(track_names())}, or a track file of your own (.yaml)"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise KitError(f"{path}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise KitError(f"{path}: {first_problem(error)}") from error
