"""Is the machine as fast after the runs as before? Calibrations around them, kept beside the results."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from kit.analysis.material import CALIBRATION_DIR, DRIFT_SUFFIX
from kit.errors import KitError
from kit.hardware.drift import compare
from kit.hardware.machine import visible_gpus
from kit.hardware.profile import Profile, read_profile, write_profile
from kit.hardware.turn import CPU, turn
from kit.results.store import write_json

DeviceType = Literal["cpu", "cuda"]
Calibrate = Callable[[DeviceType], Profile]


def calibrate_apart(device: DeviceType) -> Profile:
    """Measure in a process of its own: the referee keeps no torch, no threads and no context on the GPU.

    Raises:
        KitError: The machine is too busy to be measured.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(device, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        profile, problem = ours.recv()
    except EOFError:
        process.join()
        raise KitError(f"the calibration ended without a word (status {process.exitcode})") from None
    process.join()
    if problem is not None:
        raise KitError(problem)
    return Profile.model_validate_json(profile)


def _measure(device: DeviceType, pipe: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from kit.hardware.calibration.calibrate import calibrate

    try:
        pipe.send((calibrate(device).model_dump_json(), None))
    except KitError as error:
        pipe.send((None, str(error)))


def _end_with_parent() -> None:
    """A scoring that is killed must not leave a calibration behind that disturbs the next."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class Calibrations:
    """Measures before and after, and says what changed."""

    def __init__(self, results_dir: Path, device: DeviceType, calibrate: Calibrate, say: Callable[[str], None]) -> None:
        self._folder = results_dir / CALIBRATION_DIR
        self._device = device
        self._calibrate = calibrate
        self._say = say

    def measure(self) -> str:
        """Calibrate once: the end of what was begun and not ended yet, and the beginning of what follows.

        Returns:
            The profile's id.

        Raises:
            KitError: The machine is too busy, or the profile cannot be written.
        """
        self._say("calibrating: two minutes in which the machine should do nothing else")
        with turn(visible_gpus(1) if self._device == "cuda" else (CPU,), "wait", self._say):
            profile = self._calibrate(self._device)
        for earlier in self._open():
            try:
                drift = compare(earlier, profile)
            except KitError as error:
                self._say(f"what was calibrated before cannot be compared: {error}")
                continue
            write_json(drift, self._folder / f"{earlier.id}{DRIFT_SUFFIX}")
            self._say(f"the machine since the calibration before: {drift.verdict}, {drift.because}")
        write_profile(profile, self._folder / f"{profile.id}.json")
        return profile.id

    def awaits(self, ids: Collection[str]) -> bool:
        """Whether one of these profiles is compared with no later one yet."""
        return any(profile.id in ids for profile in self._open())

    def _open(self) -> list[Profile]:
        """Profiles that no later one was compared with."""
        profiles = []
        for path in sorted(self._folder.glob("*.json")):
            if path.name.endswith(DRIFT_SUFFIX) or path.with_name(f"{path.stem}{DRIFT_SUFFIX}").exists():
                continue
            try:
                profiles.append(read_profile(path))
            except KitError as error:
                self._say(str(error))
        return profiles
