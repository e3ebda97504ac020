"""Reference times: what a run would have taken on the reference device, in three tiers that are never mixed.

`measured`: the run was made on the reference device, or again there, whole or in part. `predicted`: from calibrations
of both devices, with the interval of their leave-one-out errors. `spec`: by data sheets alone: indicative, unranked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import model_validator

from kit.analysis.rerun import require_same_program, time_ratio
from kit.catalog import shipped
from kit.errors import KitError
from kit.hardware.prediction import Check, main_dtype, predict
from kit.hardware.profile import Profile, read_profile
from kit.hardware.roof import nominal_dtype
from kit.hardware.specs import GpuSpec, relative_speed, spec_named
from kit.results.record import Device, Record
from kit.track import Model

SPEC_FACTOR = 1.4
"""Interval of tier `spec`: 90 % of 80 published step times lay within 34 % (7 NVIDIA GPUs, fp32 transformers)."""

Tier = Literal["measured", "predicted", "spec"]


class Reference(Model):
    """The device that times are given for: an option of the configuration group `reference`, or a profile."""

    name: str
    spec: str | None = None
    """Its name in the table of specifications."""
    profile: Path | None = None
    """Its measured profile."""

    @model_validator(mode="after")
    def _is_some_device(self) -> Self:
        if self.spec is None and self.profile is None:
            raise ValueError("a reference needs a spec, a profile or both")
        return self


@dataclass(frozen=True)
class ReferenceDevice:
    """What there is to know of a reference."""

    name: str
    spec: GpuSpec | None
    profile: Profile | None


class ReferenceTime(Model):
    """A time to target on the reference device."""

    device: str
    tier: Tier
    time_s: float
    low_s: float | None
    high_s: float | None
    """95 %; None where one run says nothing of its spread."""
    basis: str
    checks: tuple[Check, ...] = ()
    """Reference workloads, each predicted from the others: what the interval of tier `predicted` comes from."""

    @property
    def ranked(self) -> bool:
        """Whether a board may rank by it."""
        return self.tier != "spec"


def opened(reference: Reference) -> ReferenceDevice:
    """Look up a reference's specifications and read its profile.

    Raises:
        KitError: The table does not know it, or the profile cannot be read.
    """
    spec = None if reference.spec is None else spec_named(reference.spec)
    if spec is None and reference.spec is not None:
        raise KitError(f"reference.spec: no device '{reference.spec}' in the table of specifications")
    return ReferenceDevice(
        name=reference.name,
        spec=spec,
        profile=None if reference.profile is None else read_profile(reference.profile),
    )


def load_reference(option: str) -> Reference:
    """A reference by its name, or a device profile of the user's own.

    Raises:
        KitError: There is none.
    """
    if option.endswith(".json"):
        return Reference(name=Path(option).stem, profile=Path(option))
    folder = shipped("conf") / "reference"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if option not in known:
        raise KitError(f"there is no reference '{option}'; known: {', '.join(known)}, or a device profile (.json)")
    return Reference.model_validate(yaml.safe_load((folder / f"{option}.yaml").read_text(encoding="utf-8")))


def reference_time(
    record: Record, reference: ReferenceDevice, *, own: Profile | None = None, rerun: Record | None = None
) -> ReferenceTime:
    """The time of a run on a reference device, in the best tier that what is given allows.

    Args:
        record: The run.
        reference: The device.
        own: Profile of the device that the run was on.
        rerun: The run made again on the reference device, whole or in part.

    Raises:
        KitError: The run did not reach its target, or what is given does not fit it or the reference.
    """
    if rerun is not None:
        if not is_on(rerun.device, reference):
            raise KitError(f"{rerun.id} ran on {rerun.device.name}, not on the reference {reference.name}")
        return measured_time(record, rerun)
    if is_on(record.device, reference):
        return ReferenceTime(
            device=record.device.name,
            tier="measured",
            time_s=_to_target_s(record),
            low_s=None,
            high_s=None,
            basis="a run on the reference device itself",
        )
    if own is not None:
        if reference.profile is None:
            raise KitError(
                f"reference {reference.name} has no measured profile to predict from: give one (kit calibrate there), "
                "or leave the run's own profile out for a time by specifications"
            )
        return predicted_time(record, own, reference.profile)
    if reference.spec is None:
        raise KitError(f"a prediction on {reference.name} needs the profile of {record.device.name} too: kit calibrate")
    return spec_time(record, reference.spec)


def measured_time(record: Record, rerun: Record) -> ReferenceTime:
    """From a re-run on the reference device, whole or in part.

    Raises:
        KitError: It is no re-run of this record, or too little of one.
    """
    own_s = _to_target_s(record)
    if rerun.outcome == "reached" and rerun.max_steps is None:
        require_same_program(record, rerun)
        time_s = _to_target_s(rerun)
        return ReferenceTime(
            device=rerun.device.name,
            tier="measured",
            time_s=time_s,
            low_s=None,
            high_s=None,
            basis=f"re-run as {rerun.id}",
        )
    ratio = time_ratio(record, rerun)
    return ReferenceTime(
        device=rerun.device.name,
        tier="measured",
        time_s=own_s * ratio.value,
        low_s=own_s * ratio.low,
        high_s=own_s * ratio.high,
        basis=f"steps {ratio.first_step} to {ratio.last_step}, re-run as {rerun.id}",
    )


def predicted_time(record: Record, own: Profile, reference: Profile) -> ReferenceTime:
    """From calibrations of the run's own device and of the reference.

    Raises:
        KitError: Operations are not counted, the profile is of another device, a curve is missing, or the reference
            workloads of this pair of devices are predicted too badly.
    """
    time_s = _to_target_s(record)
    if record.flops.not_rated_because is not None:
        raise KitError(f"{record.id}: a prediction needs its operations: {record.flops.not_rated_because}")
    if not own.is_of(record.device):
        raise KitError(
            f"profile {own.id} is of {own.device.name} with {own.device.threads} threads, "
            f"not of the device of {record.id}: {record.device.name} with {record.device.threads}"
        )
    prediction = predict(record.flops.operators, own, reference)
    if prediction.refused_because is not None:
        raise KitError(f"from {own.device.name} to {reference.device.name}: {prediction.refused_because}")
    return ReferenceTime(
        device=reference.device.name,
        tier="predicted",
        time_s=time_s * prediction.ratio,
        low_s=time_s * prediction.low,
        high_s=time_s * prediction.high,
        basis=f"profiles {own.id} and {reference.id}",
        checks=prediction.checks,
    )


def spec_time(record: Record, spec: GpuSpec) -> ReferenceTime:
    """From data sheets: by the ratio of sqrt(peak x bandwidth), in the dtype of most of the run's operations.

    Raises:
        KitError: The table does not know the run's device, or has no rate for that dtype.
    """
    time_s = _to_target_s(record)
    own = spec_named(record.device.name)
    if own is None:
        raise KitError(
            f"{record.device.name} is not in the table of specifications: "
            "calibrate both devices (kit calibrate) and give both profiles"
        )
    dtype = main_dtype(record.flops.operators) if record.flops.operators else nominal_dtype(own)
    ratio = relative_speed(own, dtype) / relative_speed(spec, dtype)
    return ReferenceTime(
        device=spec.name,
        tier="spec",
        time_s=time_s * ratio,
        low_s=time_s * ratio / SPEC_FACTOR,
        high_s=time_s * ratio * SPEC_FACTOR,
        basis=f"sqrt(peak x bandwidth) in {dtype}",
    )


def is_on(device: Device, reference: ReferenceDevice) -> bool:
    """Whether it is the reference device, or one of its model."""
    if reference.spec is not None and spec_named(device.name) == reference.spec:
        return True
    return reference.profile is not None and reference.profile.is_of(device)


def _to_target_s(record: Record) -> float:
    if record.time.to_target_s is None:
        raise KitError(f"{record.id}: the run ended as '{record.outcome}': it has no time to the target")
    return record.time.to_target_s
