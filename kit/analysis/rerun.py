"""Reference times of tier `measured`: the run was made again, whole or in part, on the reference device.

A part of a run says how fast the same steps go on another device. Both runs noted when 1, 2, 4, 8 ... optimizer steps
were done; the last doublings that both have are compared, the first steps (start-up, autotuning) left out.
"""

from dataclasses import dataclass
from itertools import pairwise

from kit.errors import KitError
from kit.results.record import Record

DOUBLINGS = 3
"""The last so many doublings of steps are compared: seven eighths of what both runs did."""
MIN_STEPS = 32
"""Of which the last must end here or later."""


@dataclass(frozen=True)
class Ratio:
    """Time on the other device per time on the run's own."""

    value: float
    low: float
    high: float
    """Smallest and largest ratio of the stretches compared."""
    first_step: int
    last_step: int


def time_ratio(record: Record, rerun: Record) -> Ratio:
    """How much longer the steps of `record` took in `rerun`.

    Raises:
        KitError: The two are not the same program on the same data, or have too few steps in common.
    """
    require_same_program(record, rerun)
    own = {mark.optimizer_steps: mark.elapsed_s for mark in record.progress}
    other = {mark.optimizer_steps: mark.elapsed_s for mark in rerun.progress}
    common = sorted(own.keys() & other.keys())[-DOUBLINGS - 1 :]
    if len(common) <= DOUBLINGS or common[-1] < MIN_STEPS:
        raise KitError(
            f"{rerun.id}: {common[-1] if common else 0} optimizer steps in common with {record.id}, "
            f"{MIN_STEPS} are needed; re-run more of it (max_steps=) with a torch optimizer"
        )
    ratios = [_stretch(other, a, b) / _stretch(own, a, b) for a, b in pairwise(common)]
    first, last = common[0], common[-1]
    return Ratio(
        value=_stretch(other, first, last) / _stretch(own, first, last),
        low=min(ratios),
        high=max(ratios),
        first_step=first,
        last_step=last,
    )


def _track(record: Record) -> tuple[str, int, str, float]:
    track = record.track
    return track.name, track.version, track.metric, track.target


def _stretch(elapsed_s: dict[int, float], first: int, last: int) -> float:
    seconds = elapsed_s[last] - elapsed_s[first]
    if seconds <= 0:
        raise KitError(f"steps {first} to {last} took no time: the record's progress is damaged")
    return seconds


def require_same_program(record: Record, rerun: Record) -> None:
    """Refuse what is no re-run.

    Raises:
        KitError: Source, configuration, track, data, seed or loader differ.
    """
    for what, a, b in (
        ("submission", record.submission.source_sha256, rerun.submission.source_sha256),
        ("configuration", record.submission.config, rerun.submission.config),
        ("track", _track(record), _track(rerun)),
        ("data", record.track.dataset_fingerprint, rerun.track.dataset_fingerprint),
        ("seed", record.seed, rerun.seed),
        ("loader", record.loader, rerun.loader),
    ):
        if a != b:
            raise KitError(f"{rerun.id} is no re-run of {record.id}: its {what} is another ({b} instead of {a})")
