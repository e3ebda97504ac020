"""Reference times: what a run would have taken on the reference device, in three tiers that are never mixed.

`measured`: the run was made on the reference device, or again there, whole or in part. `predicted`: from calibrations of
both devices, with the interval of their leave-one-out errors. `spec`: by data sheets alone, indicative and never ranked.
"""

from collections import defaultdict
from pathlib import Path
from typing import Literal

from kit.analysis.rerun import require_same_program, time_ratio
from kit.errors import KitError
from kit.hardware.prediction import Check, predict
from kit.hardware.profile import Profile
from kit.hardware.roof import nominal_dtype
from kit.hardware.specs import GpuSpec, relative_speed, spec_named
from kit.results.record import Record
from kit.track import Model, Name

SPEC_FACTOR = 1.4
"""Interval of tier `spec`: 90 % of 80 published step times lay within 34 % (7 NVIDIA GPUs, fp32 transformers)."""

Tier = Literal["measured", "predicted", "spec"]


class Reference(Model):
    """The device that times are given for: an option of the configuration group `reference`."""

    name: Name
    spec: str
    """Its name in the table of specifications."""
    profile: Path | None = None
    """Its measured profile."""


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


def spec_of(reference: Reference) -> GpuSpec:
    """The reference's row in the table of specifications.

    Raises:
        KitError: There is none.
    """
    spec = spec_named(reference.spec)
    if spec is None:
        raise KitError(f"reference.spec: no device '{reference.spec}' in the table of specifications")
    return spec


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
    for what in ("type", "name", "uuid_hash", "threads"):
        of_profile, of_record = getattr(own.device, what), getattr(record.device, what)
        if of_profile != of_record:
            raise KitError(
                f"profile {own.id} is not of the device of {record.id}: {what} {of_profile} instead of {of_record}"
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
    if own == spec:
        return ReferenceTime(
            device=spec.name, tier="measured", time_s=time_s, low_s=None, high_s=None, basis="run on such a device"
        )
    dtype = main_dtype(record) or nominal_dtype(own)
    ratio = relative_speed(own, dtype) / relative_speed(spec, dtype)
    return ReferenceTime(
        device=spec.name,
        tier="spec",
        time_s=time_s * ratio,
        low_s=time_s * ratio / SPEC_FACTOR,
        high_s=time_s * ratio * SPEC_FACTOR,
        basis=f"sqrt(peak x bandwidth) in {dtype}",
    )


def main_dtype(record: Record) -> str | None:
    """The dtype of most of a run's operations; None where none are counted."""
    flops: defaultdict[str, float] = defaultdict(float)
    for row in record.flops.operators:
        flops[row.dtype] += row.calls * row.flops_per_call
    return max(flops, key=lambda dtype: flops[dtype], default=None)


def _to_target_s(record: Record) -> float:
    if record.time.to_target_s is None:
        raise KitError(f"{record.id}: the run ended as '{record.outcome}': it has no time to the target")
    return record.time.to_target_s
