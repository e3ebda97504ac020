"""Reference times in three tiers, each called what it is."""

from pathlib import Path
from typing import Any

import pytest
from profiles import make_profile
from records import make_record

from kit.analysis.reference import Reference, ReferenceDevice, load_reference, opened, reference_time
from kit.errors import KitError
from kit.hardware.profile import write_profile
from kit.hardware.specs import relative_speed, spec_named
from kit.results.record import Device, Flops, Progress, Record, Time


def on(name: str, **differently: Any) -> Record:
    device = Device(
        type="cuda", name=name, count=1, threads=None, uuid_hash="0" * 64, driver="580", power_limit_w=700.0
    )
    marks = tuple(Progress(optimizer_steps=2**power, elapsed_s=0.01 * 2**power) for power in range(8))
    return make_record(device=device, progress=marks, **differently)


H200 = opened(load_reference("h200"))


def test_a_run_on_the_reference_device_is_measured_there() -> None:
    time = reference_time(on("NVIDIA H200"), H200)
    assert (time.tier, time.time_s) == ("measured", 1.5)
    assert time.ranked


def test_by_specifications_the_ratio_is_that_of_the_geometric_means_and_is_never_ranked() -> None:
    time = reference_time(on("NVIDIA A100-SXM4-40GB"), H200)
    a100, h200 = spec_named("NVIDIA A100-SXM4-40GB"), spec_named("NVIDIA H200")
    assert a100 is not None
    assert h200 is not None
    ratio = relative_speed(a100, "float32") / relative_speed(h200, "float32")
    assert time.tier == "spec"
    assert time.time_s == pytest.approx(1.5 * ratio)
    assert (time.low_s, time.high_s) == pytest.approx((time.time_s / 1.4, time.time_s * 1.4))
    assert not time.ranked


def test_a_processor_has_no_specifications_and_is_told_what_to_do() -> None:
    with pytest.raises(KitError, match=r"a processor is not in the table .* calibrate both devices"):
        reference_time(make_record(), H200)


def test_a_whole_re_run_on_the_reference_is_its_own_time() -> None:
    rerun = on("NVIDIA H200", id="rerun", time=Time(to_target_s=0.5, total_s=0.6, setup_s=1.0, evaluation_s=0.1))
    time = reference_time(on("NVIDIA L4"), H200, rerun=rerun)
    assert (time.tier, time.time_s, time.basis) == ("measured", 0.5, "re-run as rerun")


def test_a_partial_re_run_scales_the_time_by_its_steps() -> None:
    faster = tuple(Progress(optimizer_steps=2**power, elapsed_s=3 + 0.004 * 2**power) for power in range(7))
    rerun = on("NVIDIA H200").model_copy(update={"progress": faster, "outcome": "partial", "max_steps": 100})
    time = reference_time(on("NVIDIA L4"), H200, rerun=rerun)
    assert time.time_s == pytest.approx(1.5 * 0.4)
    assert (time.low_s, time.high_s) == pytest.approx((0.6, 0.6))


def test_a_re_run_elsewhere_is_refused() -> None:
    with pytest.raises(KitError, match="ran on NVIDIA L4, not on the reference h200"):
        reference_time(on("NVIDIA L4"), H200, rerun=on("NVIDIA L4"))


def test_a_run_that_missed_its_target_has_no_reference_time() -> None:
    missed = on("NVIDIA L4", outcome="missed", time=Time(to_target_s=None, total_s=1, setup_s=1, evaluation_s=0))
    with pytest.raises(KitError, match="no time to the target"):
        reference_time(missed, H200)


def test_a_prediction_needs_both_profiles_and_counted_operations() -> None:
    record = make_record(device=make_profile().device)
    own = make_profile()
    with pytest.raises(KitError, match="reference h200 has no measured profile"):
        reference_time(record, H200, own=own)
    elsewhere = make_profile(device=own.device.model_copy(update={"name": "Other"}))
    reference = ReferenceDevice(name="other", spec=None, profile=elsewhere)
    with pytest.raises(KitError, match="needs the profile of Made too"):
        reference_time(record, reference)
    uncounted = record.model_copy(update={"flops": Flops(method="pending")})
    with pytest.raises(KitError, match="needs its operations: not counted"):
        reference_time(uncounted, reference, own=own)


def test_a_profile_of_another_device_is_refused() -> None:
    reference = ReferenceDevice(name="other", spec=None, profile=make_profile())
    with pytest.raises(KitError, match="not of the device of"):
        reference_time(make_record(), reference, own=make_profile())


def test_a_profile_can_be_the_reference(tmp_path: Path) -> None:
    path = write_profile(make_profile(), tmp_path / "mine.json")
    device = opened(load_reference(str(path)))
    assert device.profile == make_profile()
    assert reference_time(make_record(device=make_profile().device), device).tier == "measured"


@pytest.mark.parametrize("name", ["h100", "h200", "a100"])
def test_every_shipped_reference_is_in_the_table(name: str) -> None:
    device = opened(load_reference(name))
    assert device.name == name
    assert device.spec is not None


def test_an_unknown_reference_is_refused_with_those_there_are() -> None:
    with pytest.raises(KitError, match="no reference 'h300'; known: a100, h100, h200"):
        load_reference("h300")
    with pytest.raises(KitError, match="no device 'nothing'"):
        opened(Reference(name="x", spec="nothing"))
    with pytest.raises(ValueError, match="needs a spec, a profile or both"):
        Reference(name="x")
