"""An entry's time on the reference device, from one of its runs: the median, times that run's ratio of times."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from kit.analysis.estimate import CONFIDENCE, Estimate, coverage, log_median
from kit.analysis.material import CALIBRATION_DIR, FoundRun, Material
from kit.analysis.reference import (
    ReferenceDevice,
    ReferenceTime,
    Tier,
    is_on,
    load_reference,
    opened,
    reference_time,
)
from kit.analysis.result import Result
from kit.analysis.scoring import Interval, Measure, Median, finite, median_of
from kit.errors import KitError
from kit.hardware.profile import Profile, read_strangers_profile
from kit.results.record import Record
from kit.results.signing import Verification
from kit.results.store import read_record
from kit.track import Model


class OnReference(Model):
    """What an entry would take on the reference device."""

    tier: Tier | None = None
    """None where there is no time."""
    time_s: Measure
    """Its interval holds both the spread of the runs and the error of the ratio."""
    basis: str | None = None

    @property
    def ranked(self) -> bool:
        """Whether a board may rank by it."""
        return self.tier in ("measured", "predicted")


class ReferenceTimes:
    """Times on one reference device."""

    def __init__(
        self,
        reference: ReferenceDevice,
        runs: Sequence[FoundRun],
        read: Callable[[FoundRun], Record],
        profile: Callable[[FoundRun], Profile | None],
    ) -> None:
        """Find the runs that were made on the reference device.

        Args:
            reference: The device.
            runs: All that there are: among them may be re-runs, whole or in part.
            read: A run's record, for its operations and its progress.
            profile: Of a run's machine, where it was calibrated.
        """
        self.reference = reference
        self._read = read
        self._profile = profile
        self._reruns: defaultdict[tuple[object, ...], list[FoundRun]] = defaultdict(list)
        for run in runs:
            result = run.result
            if run.signature.state == "invalid" or result.rehearsal or result.outcome not in ("reached", "partial"):
                continue
            if is_on(result.device, reference):
                self._reruns[_program(result)].append(run)

    def of(self, runs: Sequence[FoundRun]) -> OnReference:
        """The time of one entry, from its runs on its own device."""
        times_s = [math.inf if run.result.to_target_s is None else run.result.to_target_s for run in runs]
        own = median_of(times_s)
        if own.value is None:
            return OnReference(time_s=Measure(median=own))
        if all(is_on(run.result.device, self.reference) for run in runs):
            return OnReference(tier="measured", time_s=Measure(median=own), basis="runs on the reference device itself")
        try:
            run, found = self._one(runs, own.value)
        except KitError as error:
            return OnReference(time_s=Measure(median=None, unavailable_because=str(error)))
        own_s = run.result.to_target_s
        assert own_s is not None
        ratio = Estimate(math.log(found.time_s / own_s), *_reach(found), complete=found.low_s is not None)
        return OnReference(tier=found.tier, time_s=Measure(median=_median(times_s, ratio)), basis=found.basis)

    def _one(self, runs: Sequence[FoundRun], middle_s: float) -> tuple[FoundRun, ReferenceTime]:
        """The run nearest to the median, or nearest of those that were made again on the reference device."""
        reached = [run for run in runs if run.result.to_target_s is not None]
        reached.sort(key=lambda run: (abs((run.result.to_target_s or 0) - middle_s), run.result.id))
        for run in reached:
            for rerun in sorted(self._reruns[_program(run.result)], key=_whole_first):
                if not _vouched_alike(run.signature, rerun.signature):
                    continue
                try:
                    return run, reference_time(self._read(run), self.reference, rerun=self._read(rerun))
                except KitError:
                    continue  # too short a part to compare
        run = reached[0]
        profile = None if self.reference.profile is None else self._profile(run)
        return run, reference_time(self._read(run), self.reference, own=profile)


def read_reference_times(results_dir: Path, reference: str, material: Material) -> ReferenceTimes:
    """Times on a device by its name or its profile, of runs in a folder of results.

    Raises:
        KitError: There is no such reference, or its profile cannot be read.
    """
    return ReferenceTimes(
        opened(load_reference(reference)),
        material.runs,
        lambda run: read_record(results_dir / run.folder),
        lambda run: _profile_of(results_dir, run),
    )


def _profile_of(results_dir: Path, run: FoundRun) -> Profile | None:
    """Of a run's machine, as it was calibrated before the run; None where it was not."""
    official = run.result.official
    if official is None or official.calibration is None:
        return None
    name = official.calibration
    if Path(name).name != name:
        raise KitError(f"{run.result.id}: its calibration {name!a} is no name of a profile")
    return read_strangers_profile((results_dir / run.folder).parent / CALIBRATION_DIR / f"{name}.json")


def _median(times_s: Sequence[float], ratio: Estimate) -> Median:
    """The median of the runs times the ratio; of one run, nothing is known of the spread."""
    estimate = log_median(times_s) + ratio
    value = median(times_s) * math.exp(ratio.log)
    if not estimate.complete:
        return Median(value=value, interval=None)
    low, high = math.exp(estimate.log - estimate.down), math.exp(estimate.log + estimate.up)
    confidence = min(CONFIDENCE, coverage(len(times_s)))
    return Median(value=value, interval=Interval(low=low, high=finite(high), confidence=confidence))


def _reach(time: ReferenceTime) -> tuple[float, float]:
    """How far the log of a time reaches down and up."""
    if time.low_s is None or time.high_s is None:
        return 0.0, 0.0
    return math.log(time.time_s / time.low_s), math.log(time.high_s / time.time_s)


def _vouched_alike(run: Verification, rerun: Verification) -> bool:
    """Whether who vouches for a run vouches for its re-run too: else anybody's file would set an organizer's time."""
    return run.state != "valid" or (rerun.state == "valid" and rerun.public_key == run.public_key)


def _program(result: Result) -> tuple[object, ...]:
    """What a re-run shares with the run."""
    entry = result.entry
    return (
        entry.source_sha256,
        entry.config,
        entry.track,
        entry.version,
        entry.dataset_fingerprint,
        entry.metric,
        entry.target,
        entry.loader,
        result.seed,
    )


def _whole_first(run: FoundRun) -> tuple[bool, int, str]:
    return run.result.outcome != "reached", -(run.result.max_steps or 0), run.result.id
