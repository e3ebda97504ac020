"""The device profile: what one machine does per second, in the words of a record's operator rows. Pure data, no torch.

Times are of single calls and single training steps. A spread is relative: two calibrations of a machine that was left
alone agree within the root of the sum of their squared spreads in about nine points of ten.
"""

import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, ValidationError, model_validator

from kit.errors import KitError
from kit.protocol import first_problem
from kit.results.record import Device, Moment, OperatorFlops, PerCall, Software
from kit.results.store import read_plain
from kit.track import Model

SCHEMA_VERSION = 1
MAX_PROFILE_BYTES = 16 << 20

OperatorClass = Literal[
    "gemm",
    "conv",
    "depthwise_conv",
    "attention",
    "rnn",
    "norm",
    "elementwise",
    "reduction",
    "gather",
    "copy",
]
DtypeName = Literal["float32", "tf32", "bfloat16", "float16"]
BOUND_BY_BYTES = frozenset(("elementwise", "reduction", "gather", "copy"))
"""Classes whose time goes with bytes: float32 stands in for integers, booleans and float64, one direction for both."""


def _divisible(value: float) -> float:
    if value < 1e-30:
        raise ValueError("too small to divide by")
    return value


Positive = Annotated[float, Field(gt=0, le=1e30), AfterValidator(_divisible)]
Spread = Annotated[float, Field(ge=0, le=1e6)]
Count = Annotated[int, Field(ge=0)]


class Point(Model):
    """One operator call."""

    series: str
    """What was called; within a series only the size changes."""
    flops_per_call: PerCall
    bytes_per_call: Positive
    seconds: Positive
    """Per call, in a row of calls on the same operands."""
    spread: Spread


class Curve(Model):
    """Time against size of one operator class in one dtype."""

    operator_class: OperatorClass
    dtype: DtypeName
    backward: bool
    points: Annotated[tuple[Point, ...], Field(min_length=1)]
    """By size, of several series: a class has tall and square, wide and narrow members."""


class WorkloadTime(Model):
    """A reference workload: one training step with its optimizer."""

    name: str
    dtype: DtypeName
    """Of the products: bfloat16 and float16 by autocast."""
    compiled: bool
    step_s: Positive
    spread: Spread
    operators: tuple[OperatorFlops, ...]
    """Of one step, eager also where the timed step was compiled."""


class LeftOut(Model):
    """What a calibration did not measure."""

    what: str
    because: str


class Settings(Model):
    """What decides how fast torch is, beside the machine."""

    threads: Annotated[int, Field(ge=1)]
    matmul_allow_tf32: bool
    """As found; calibration sets both TF32 flags by the dtype that it measures."""
    cudnn_allow_tf32: bool
    float32_matmul_precision: str
    cudnn_benchmark: bool
    onednn: bool
    environment: dict[str, str]
    """Variables that steer thread pools, math libraries and allocators."""


class State(Model):
    """The machine while it was measured; None is what it does not tell."""

    clock_mhz: Positive | None
    """Of the GPU's multiprocessors, or the mean over the CPU's cores."""
    power_limit_w: Positive | None
    temperature_c: Annotated[float, Field(ge=-300, le=1e6)] | None
    throttled_because: str | None
    """The GPU's own words for why its clock was held down."""
    other_cores: Annotated[float, Field(ge=0, le=1e9)]
    """CPU cores that other processes, or the hypervisor, took on average."""
    other_gpu_processes: Count
    """The most that were seen at once."""


class Noise(Model):
    """How far to trust a profile."""

    median_spread: Spread
    p90_spread: Spread
    rounds: Annotated[int, Field(ge=0)]
    disturbed: Annotated[float, Field(ge=0, le=1)]
    """Share of the measured stretches that were thrown away, or should have been, because others used the machine."""
    unclean: Count
    """Points and workloads that were never measured undisturbed."""
    refused: tuple[LeftOut, ...]
    """Points that made no sense, were measured again and made none."""
    noisy: bool
    because: str | None

    @model_validator(mode="after")
    def _noisy_for_a_reason(self) -> Self:
        if self.noisy != (self.because is not None):
            raise ValueError("a noisy profile says why, and no other does")
        return self


class Profile(Model):
    """What one machine can do, by measurement."""

    schema_version: Literal[1] = 1
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
    kind: Literal["measured"] = "measured"
    measured_at: Moment
    took_s: Positive
    kit_version: str
    device: Device
    software: Software
    settings: Settings
    state: State
    launch_overhead_s: Positive
    """Of an operator that does next to nothing, called in a row."""
    curves: Annotated[tuple[Curve, ...], Field(min_length=1)]
    workloads: tuple[WorkloadTime, ...]
    left_out: tuple[LeftOut, ...]
    noise: Noise

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        curves = Counter((curve.operator_class, curve.dtype, curve.backward) for curve in self.curves)
        workloads = Counter((workload.name, workload.dtype, workload.compiled) for workload in self.workloads)
        for key, times in (*curves.items(), *workloads.items()):
            if times > 1:
                raise ValueError(f"{key} is there {times} times")
        return self

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes that curves were measured in."""
        return tuple(dict.fromkeys(curve.dtype for curve in self.curves))

    def is_of(self, device: Device) -> bool:
        """Whether a record's device is this one, or on the same kind of processor as many threads."""
        return all(
            getattr(self.device, what) == getattr(device, what) for what in ("type", "name", "threads", "uuid_hash")
        )

    def curve(self, operator_class: str, dtype: str, *, backward: bool = False) -> Curve:
        """The curve that serves a record's operator row.

        Raises:
            KitError: None does; the message says what is missing.
        """
        found: dict[tuple[str, str, bool], Curve] = {
            (curve.operator_class, curve.dtype, curve.backward): curve for curve in self.curves
        }
        by_bytes = operator_class in BOUND_BY_BYTES
        dtypes = [dtype, "float32"] if by_bytes and dtype not in get_args(DtypeName) else [dtype]
        directions = [backward, not backward] if by_bytes else [backward]
        for key in ((operator_class, name, way) for name in dtypes for way in directions):
            curve = found.get(key)
            if curve is not None:
                return curve
        kind = f"{operator_class}{' backward' if backward else ''}"
        there = [name for (other, name, way) in found if (other, way) == (operator_class, backward)]
        if dtype not in self.dtypes and dtype in get_args(DtypeName):
            cure = f"calibrate again on a device with {dtype}"
        elif operator_class in get_args(OperatorClass):
            cure = "this device does not run it as one operator, or its measurements were refused: calibrate again"
        else:
            cure = f"only {', '.join(get_args(OperatorClass))} are measured"
        raise KitError(
            f"profile {self.id} has no {dtype} curve for {kind} (there: {', '.join(there) or 'none'}); {cure}"
        )

    def workload(self, name: str, dtype: str, *, compiled: bool = False) -> WorkloadTime:
        """One reference workload.

        Raises:
            KitError: It was not measured; the message says why where the profile does.
        """
        for workload in self.workloads:
            if (workload.name, workload.dtype, workload.compiled) == (name, dtype, compiled):
                return workload
        what = workload_label(name, dtype, compiled=compiled)
        because = next((entry.because for entry in self.left_out if entry.what == what), None)
        there = ", ".join(sorted({workload.name for workload in self.workloads})) or "none"
        raise KitError(f"profile {self.id} has no workload {what} ({because or f'there: {there}'}); calibrate again")


def workload_label(name: str, dtype: str, *, compiled: bool) -> str:
    """How messages and `left_out` name a workload."""
    return f"{name} {dtype}{' compiled' if compiled else ''}"


def read_profile(path: Path) -> Profile:
    """Read a profile file.

    Raises:
        KitError: There is none, it is damaged, or another kit's version wrote it.
    """
    try:
        if path.stat().st_size > MAX_PROFILE_BYTES:
            raise KitError(f"{path}: larger than {MAX_PROFILE_BYTES >> 20} MiB, which no device profile is")
        data = path.read_bytes()
    except FileNotFoundError:
        raise _no_profile(path) from None
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}") from error
    return _parse(data, path)


def read_strangers_profile(path: Path) -> Profile:
    """The same of a file among results: no link is followed, and no pipe waited for.

    Raises:
        KitError: As `read_profile`, or it is no plain file.
    """
    try:
        return _parse(read_plain(path, MAX_PROFILE_BYTES), path)
    except FileNotFoundError:
        raise _no_profile(path) from None


def _no_profile(path: Path) -> KitError:
    return KitError(f"{path}: there is no device profile here; kit calibrate -o {path} makes one")


def _parse(data: bytes, path: Path) -> Profile:
    try:
        content = json.loads(data)
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KitError(f"{path}: not a device profile; kit calibrate makes one") from None
    if "curves" not in content:
        raise KitError(f"{path}: not a device profile, which has curves; kit calibrate makes one")
    if version != SCHEMA_VERSION:
        raise KitError(
            f"{path}: device profile of schema {version}, this kit reads {SCHEMA_VERSION}; "
            "calibrate again, or use the kit that wrote it"
        )
    try:
        return Profile.model_validate_json(data)
    except ValidationError as error:
        raise KitError(f"{path}: not a valid device profile: {first_problem(error)}") from error


def write_profile(profile: Profile, path: Path) -> Path:
    """Write a profile whole or not at all.

    Raises:
        KitError: The place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(prefix=".profile-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(profile.model_dump_json(indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
    except OSError as error:
        raise KitError(f"cannot write the device profile {path}: {error.strerror}") from error
    return path
