"""How submissions are scored there: what the bundle's reference data says, which entrants never see."""

from typing import Annotated, Literal

from pydantic import Field

from kit.results.record import IsolationMode
from kit.track import Model, Track

SETTINGS_FILE = "scoring.json"
DATASET_DIR = "dataset"
"""Beside it, where the organizer put them: the published files of a dataset that the kit cannot make by itself."""


class Settings(Model):
    """As the record was made that the bundle was exported from."""

    schema_version: Literal[1] = 1
    kit_version: str
    track: Track
    seeds: Annotated[int, Field(ge=1, le=1000)]
    secret: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """What the seeds are made from: all submissions run with the same ones."""
    isolation: IsolationMode
    device: Literal["cpu", "cuda"]
    loader: Literal["dali", "torch"]
