"""The device table: complete, honest about what it is not sure of, and found by the names that drivers give."""

import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kit.errors import KitError
from kit.hardware.specs import DTYPES, GpuSpec, all_specs, relative_speed, spec_named

FIGURES = {"release_date", "memory_gb", "bandwidth_gb_s", "tdp_w", *(f"{dtype}_tflops" for dtype in DTYPES)}

NAMES = {
    "NVIDIA H100 80GB HBM3": "H100 SXM5 80GB",
    "NVIDIA H100 PCIe": "H100 PCIe 80GB",
    "NVIDIA H100 NVL": "H100 NVL 94GB",
    "NVIDIA A100-SXM4-40GB": "A100 SXM4 40GB",
    "A100-SXM4-80GB": "A100 SXM4 80GB",
    "NVIDIA A100 80GB PCIe": "A100 PCIe 80GB",
    "Tesla V100-SXM2-16GB": "V100 SXM2 16GB",
    "NVIDIA GeForce RTX 4090": "RTX 4090",
    "GeForce GTX 1080 Ti": "GTX 1080 Ti",
    "NVIDIA H200": "H200 SXM5 141GB",
    "Tesla K80": "K80",
    "Tesla T4": "T4",
    "NVIDIA L4": "L4",
    "NVIDIA A10G": "A10G",
    "NVIDIA B200": "B200 SXM 180GB",
    "NVIDIA TITAN X (Pascal)": "Titan X (Pascal)",
    "NVIDIA GeForce GTX TITAN X": "GTX Titan X",
    "AMD Instinct MI300X": "MI300X",
    "v100 sxm2 16gb": "V100 SXM2 16GB",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_device_is_found_by_the_name_that_its_driver_gives(name: str) -> None:
    spec = spec_named(name)
    assert spec is not None
    assert spec.name == NAMES[name]


@pytest.mark.parametrize(
    "name", ["", "NVIDIA", "H100", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "Intel(R) Xeon(R) Platinum 8481C", "GRID A100X"]
)
def test_other_names_are_nobodys(name: str) -> None:
    assert spec_named(name) is None


def test_no_name_means_two_devices() -> None:
    names = [name for spec in all_specs() for name in {n.casefold() for n in (spec.name, *spec.driver_names)}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)
def test_every_row_has_a_source_and_marks_only_figures_that_it_gives(spec: GpuSpec) -> None:
    assert spec.sources
    assert spec.unsure <= FIGURES
    assert all(getattr(spec, figure) is not None for figure in spec.unsure)
    assert date(2010, 1, 1) < spec.release_date < date(2026, 1, 1)


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)
def test_smaller_formats_are_not_slower_where_matrix_units_compute_them(spec: GpuSpec) -> None:
    rates = [spec.float32_tflops, spec.tf32_tflops, spec.bfloat16_tflops, spec.float8_tflops]
    given = [rate for rate in rates if rate is not None]
    assert given == sorted(given)
    if spec.bfloat16_tflops is not None and spec.vendor == "NVIDIA":
        assert spec.float16_tflops == spec.bfloat16_tflops


def test_a_device_is_one_that_a_program_sees_not_a_board() -> None:
    k80, mi250x = spec_named("Tesla K80"), spec_named("AMD Instinct MI250X")
    assert k80 is not None
    assert (k80.per_board, k80.memory_gb, k80.bandwidth_gb_s, k80.float32_tflops) == (2, 12, 240, 4.37)
    assert mi250x is not None
    assert (mi250x.per_board, mi250x.memory_gb, mi250x.bfloat16_tflops) == (2, 64, 191.5)


def test_the_float16_rate_is_the_tensor_cores_where_there_are_some_and_the_vector_units_elsewhere() -> None:
    assert peak("Tesla V100-SXM2-16GB", "float16") == 125
    assert peak("Tesla P100-SXM2-16GB", "float16") == 21.2
    assert peak("GeForce GTX 1080 Ti", "float16") == 0.177
    assert peak("Tesla K80", "float16") is None


def test_all_formats_of_eight_bits_share_a_rate() -> None:
    assert peak("NVIDIA L4", "float8_e4m3fn") == peak("NVIDIA L4", "float8") == 242
    assert peak("NVIDIA L4", "name") is None


def test_relative_speed_is_the_geometric_mean_of_peak_and_bandwidth() -> None:
    spec = spec_named("Tesla T4")
    assert spec is not None
    assert relative_speed(spec, "float16") == math.sqrt(65 * 320)


@given(st.sampled_from(all_specs()), st.sampled_from(DTYPES))
def test_relative_speed_exists_exactly_where_the_table_has_a_rate(spec: GpuSpec, dtype: str) -> None:
    if spec.peak_tflops(dtype) is None:
        with pytest.raises(KitError, match=f"no {dtype} rate"):
            relative_speed(spec, dtype)
    else:
        assert relative_speed(spec, dtype) > 0


def test_a_missing_rate_is_refused_with_those_there_are() -> None:
    spec = spec_named("Tesla V100-SXM2-16GB")
    assert spec is not None
    with pytest.raises(KitError) as refusal:
        relative_speed(spec, "bfloat16")
    assert str(refusal.value) == (
        "V100 SXM2 16GB has no bfloat16 rate in the table; it has float64, float32, float16: compare in one of these"
    )


def test_specs_are_frozen() -> None:
    with pytest.raises(ValidationError):
        all_specs()[0].name = "another"


def peak(name: str, dtype: str) -> float | None:
    spec = spec_named(name)
    assert spec is not None
    return spec.peak_tflops(dtype)
