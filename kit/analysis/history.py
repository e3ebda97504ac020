"""A history of efficiency: series of one table or of one folder of results, and what to know of them."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, ValidationError

from kit.analysis.material import LeftOut
from kit.analysis.progress import By, Point, Progress
from kit.protocol import first_problem
from kit.track import Model

UNITS: dict[By, str] = {"flops": "FLOP", "time": "s", "energy": "J", "cost": "USD"}


class FixedHardware(Model):
    """How far a task came on one kind and number of devices: progress without other hardware."""

    series: str
    device: str
    count: int
    progress: Progress | None
    """Software and algorithm. None where nothing was run on it."""
    rest_ratio: float | None
    """The whole ratio over this one: hardware and scale, and what software gained before the first result on it."""
    same_period_ratio: float | None
    """Of the whole series from the first to the last record on this hardware, to compare with over one period."""


class TrainedModel(Model):
    """A model that was trained to the same target and has no date."""

    label: str
    epochs: int
    multiply_adds_per_image: float
    """Forward."""
    cost: float
    ratio: float
    """Cost of the model that the others are compared with over this one."""


class History(Model):
    """What there is of one table or folder: a series for each target."""

    name: str
    by: By
    source: str | None
    progress: tuple[Progress, ...]
    fixed_hardware: tuple[FixedHardware, ...] = ()
    """Of DAWNBench's tasks, by time."""
    models: tuple[TrainedModel, ...] = ()
    """Of AI and Efficiency: all that its authors trained to AlexNet's level, the dearest first."""
    notes: tuple[str, ...] = ()
    flags: Annotated[dict[str, str], Field(default_factory=dict)]
    """What the flags of points mean."""
    left_out: tuple[LeftOut, ...] = ()


@dataclass
class Points:
    """Points by their series, and what became none."""

    of: dict[Hashable, list[Point]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def add(self, key: Hashable, where: str, **content: Any) -> None:
        """One more, where its numbers are some."""
        try:
            point = Point(**content)
        except ValidationError as error:
            self.left_out.append(LeftOut(file=where, because=first_problem(error)))
        else:
            self.of.setdefault(key, []).append(point)


def legend(progress: Iterable[Progress], words: Mapping[str, str]) -> dict[str, str]:
    """What the flags mean that points of these series have."""
    used = {flag for one in progress for point in one.series.points for flag in point.flags}
    return {flag: text for flag, text in words.items() if flag in used}
