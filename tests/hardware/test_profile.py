"""A device profile on disk, and what it answers."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import QUIET, make_curve, make_profile
from pydantic import ValidationError

from kit.errors import KitError
from kit.hardware.profile import Point, read_profile, write_profile


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    profile = make_profile()
    path = write_profile(profile, tmp_path / "new" / "folder" / "profile.json")
    assert read_profile(path) == profile
    assert [file.name for file in path.parent.iterdir()] == ["profile.json"]


@given(
    seconds=st.floats(min_value=1e-9, max_value=1e3),
    flops=st.floats(min_value=0, max_value=1e18),
    size=st.floats(min_value=1, max_value=1e12),
)
def test_numbers_survive_to_the_last_digit(seconds: float, flops: float, size: float) -> None:
    point = Point(series="made", flops_per_call=flops, bytes_per_call=size, seconds=seconds, spread=0.1)
    assert Point.model_validate_json(point.model_dump_json()) == point


def _damaged(**changes: Any) -> str:
    content = json.loads(make_profile().model_dump_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = content
        for name in parents:
            inner = inner[int(name) if name.isdigit() else name]
        if value is KeyError:
            del inner[last]
        else:
            inner[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not a device profile; kit calibrate makes one"),
        ("[]", "not a device profile"),
        ('{"schema_version": 1, "track": {}}', "not a device profile, which has curves"),
        (_damaged(schema_version=2), "device profile of schema 2, this kit reads 1; calibrate again"),
        (_damaged(schema_version=0), "device profile of schema 0, this kit reads 1"),
        (_damaged(curves__0__dtype=KeyError), "curves.0.dtype: Field required"),
        (_damaged(curves__0__dtype="float8"), "curves.0.dtype: Input should be 'float32', 'tf32', 'bfloat16'"),
        (_damaged(curves__0__operator_class="sorting"), "curves.0.operator_class: Input should be 'gemm'"),
        (_damaged(curves__0__points=[]), "curves.0.points"),
        (_damaged(curves=[]), "curves: Tuple should have at least 1 item"),
        (_damaged(curves__0__points__1__seconds=0), "curves.0.points.1.seconds: Input should be greater than 0"),
        (_damaged(curves__0__points__1__seconds=5e-324), "seconds: Value error, too small to divide by"),
        (_damaged(curves__0__points__1__bytes_per_call=1e308), "bytes_per_call: Input should be less than or equal to"),
        (_damaged(curves__0__points__1__seconds=-1e-6), "seconds: Input should be greater than 0"),
        (_damaged(curves__0__points__1__seconds=float("nan")), "seconds: Input should be a finite number"),
        (_damaged(curves__0__points__1__seconds=float("inf")), "seconds: Input should be a finite number"),
        (_damaged(curves__0__points__1__bytes_per_call=0), "bytes_per_call: Input should be greater than 0"),
        (_damaged(curves__0__points__1__spread=-0.1), "spread: Input should be greater than or equal to 0"),
        (_damaged(workloads__0__step_s=0), "workloads.0.step_s: Input should be greater than 0"),
        (_damaged(launch_overhead_s=0), "launch_overhead_s: Input should be greater than 0"),
        (_damaged(kind="spec"), "kind: Input should be 'measured'"),
        (_damaged(id="../elsewhere"), "id: String should match pattern"),
        (_damaged(measured_at="2026-11-24T12:00:00"), "measured_at: Input should have timezone info"),
        (
            _damaged(measured_at="9999-12-31T23:59:59-12:00"),
            "measured_at: Value error, a time that there is not in UTC",
        ),
        (_damaged(surprise=1), "surprise: Extra inputs are not permitted"),
        (_damaged(noise__noisy=True), "noise: Value error, a noisy profile says why"),
    ],
)
def test_what_is_no_valid_profile_is_refused_in_one_line(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(KitError) as error:
        read_profile(path)
    assert expected in str(error.value)
    assert str(error.value).startswith(str(path))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="there is no device profile here; kit calibrate -o"):
        read_profile(tmp_path / "none.json")


def test_a_place_that_cannot_be_written_to_is_a_users_mistake() -> None:
    with pytest.raises(KitError, match="cannot write the device profile"):
        write_profile(make_profile(), Path("/proc/nothing/profile.json"))


def test_no_curve_is_there_twice() -> None:
    with pytest.raises(ValidationError, match="is there 2 times"):
        make_profile(curves=(make_curve(), make_curve()))


def test_a_quiet_profile_gives_no_reason_for_noise() -> None:
    with pytest.raises(ValidationError, match="says why"):
        make_profile(noise=QUIET.model_copy(update={"because": "nothing"}).model_dump())


@pytest.mark.parametrize(
    ("wanted", "backward", "found"),
    [
        (("gemm", "bfloat16"), False, ("gemm", "bfloat16", False)),
        (("elementwise", "int64"), False, ("elementwise", "float32", False)),
        (("elementwise", "bool"), True, ("elementwise", "float32", False)),
        (("elementwise", "bfloat16"), True, ("elementwise", "bfloat16", False)),
        (("norm", "float32"), True, ("norm", "float32", True)),
    ],
)
def test_a_row_finds_the_curve_that_serves_it(
    wanted: tuple[str, str], backward: bool, found: tuple[str, str, bool]
) -> None:
    curves = (*make_profile().curves, make_curve("norm"), make_curve("norm", backward=True))
    curve = make_profile(curves=curves).curve(*wanted, backward=backward)
    assert (curve.operator_class, curve.dtype, curve.backward) == found


@pytest.mark.parametrize(
    ("wanted", "backward", "expected"),
    [
        (
            ("conv", "float16"),
            False,
            "no float16 curve for conv (there: float32, bfloat16); calibrate again on a device",
        ),
        (("conv", "float32"), True, "no float32 curve for conv backward (there: none)"),
        (("rnn", "float32"), False, "no float32 curve for rnn (there: none); this device does not run it as one"),
        (("other", "float32"), False, "no float32 curve for other (there: none); only gemm, conv"),
        (("gemm", "int8"), False, "no int8 curve for gemm (there: float32, bfloat16)"),
        (("elementwise", "float16"), False, "no float16 curve for elementwise"),
    ],
)
def test_a_missing_curve_is_named(wanted: tuple[str, str], backward: bool, expected: str) -> None:
    with pytest.raises(KitError) as error:
        make_profile().curve(*wanted, backward=backward)
    assert str(error.value).startswith("profile 20261124T120000Z-made-abcdef has ")
    assert expected in str(error.value)


def test_workloads_are_found_by_name_dtype_and_compilation() -> None:
    assert make_profile().workload("vit", "float32").name == "vit"


@pytest.mark.parametrize(
    ("name", "compiled", "expected"),
    [
        ("cnn", True, "no workload cnn float32 compiled (there is no C++ compiler here)"),
        ("rnn", False, "there: cnn, vit"),
    ],
)
def test_a_missing_workload_says_why(name: str, compiled: bool, expected: str) -> None:
    with pytest.raises(KitError) as error:
        make_profile().workload(name, "float32", compiled=compiled)
    assert expected in str(error.value)
