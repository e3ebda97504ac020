"""Pages of devices: measured profiles, and the table of data sheets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kit.hardware.drift import Drift
from kit.hardware.profile import BOUND_BY_BYTES, Curve, Profile
from kit.hardware.specs import DTYPES, all_specs
from kit.report.calibration import best_rate
from kit.report.csv_text import csv_text
from kit.report.site.content import FoundProfile
from kit.report.site.downloads import json_bytes
from kit.report.site.figures import Figure, Line, lines, log_axis
from kit.report.site.folder import Folder
from kit.report.site.render import render
from kit.report.site.words import NOTHING

POINT_COLUMNS = (
    "operator_class",
    "dtype",
    "backward",
    "series",
    "flops_per_call",
    "bytes_per_call",
    "seconds",
    "spread",
)


def write_devices(folder: Folder, profiles: Sequence[FoundProfile], drifts: Mapping[tuple[str, str], Drift]) -> None:
    """Write the list of devices, and a page for each measured profile."""
    sheets = sorted(all_specs(), key=lambda spec: (spec.release_date, spec.name), reverse=True)
    page = render("devices.html", 1, profiles=profiles, specs=sheets, dtypes=DTYPES)
    folder.write("devices/index.html", page)
    contents = [spec.model_dump(mode="json") | {"unsure": sorted(spec.unsure)} for spec in sheets]
    folder.write("devices/specs.json", json_bytes(contents))
    columns = tuple(contents[0])
    rows = ([_flat(content[name]) for name in columns] for content in contents)
    folder.write("devices/specs.csv", csv_text(columns, rows))
    for found in profiles:
        _write_profile(folder, found, drifts.get((found.place, found.profile.id)))


def _flat(value: Any) -> Any:
    return ";".join(value) if isinstance(value, list) else value


def _write_profile(folder: Folder, found: FoundProfile, drift: Drift | None) -> None:
    profile = found.profile
    page = render(
        "device.html",
        1,
        found=found,
        drift=drift,
        plots=list(_plots(profile)),
        rates=list(_rates(profile)),
        state=list(_state(profile)),
    )
    folder.write(f"devices/{found.slug}.html", page)
    folder.write(f"devices/{found.slug}.json", json_bytes(profile))
    rows = (
        (curve.operator_class, curve.dtype, curve.backward, *(getattr(point, name) for name in POINT_COLUMNS[3:]))
        for curve in profile.curves
        for point in curve.points
    )
    folder.write(f"devices/{found.slug}-points.csv", csv_text(POINT_COLUMNS, rows))


def _plots(profile: Profile) -> Iterator[tuple[str, str, Figure, str]]:
    """Rate against size: of what is counted in operations, and of what goes with bytes."""
    counted = [curve for curve in profile.curves if curve.operator_class not in BOUND_BY_BYTES]
    moved = [curve for curve in profile.curves if curve.operator_class in BOUND_BY_BYTES]
    for anchor, title, curves, size, unit in (
        ("counted", "Operations per second by size of the call", counted, "flops_per_call", "FLOP"),
        ("moved", "Bytes per second by size of the call", moved, "bytes_per_call", "B"),
    ):
        drawn = list(_lines(curves, size))
        if drawn:
            xs = [float(x) for line in drawn for x in line.x]
            ys = [y for line in drawn for y in line.y]
            figure = lines(
                drawn,
                log_axis(xs, f"size of the call, {unit}", unit),
                log_axis(ys, "rate", f"{unit}/s"),
                f"%{{customdata}}<br>%{{y:.3~s}}{unit}/s at %{{x:.3~s}}{unit}",
                height=460,
            )
            words = "Forward calls, one point for each; open symbols are other dtypes. Both axes logarithmic."
            yield anchor, title, figure, words


def _lines(curves: Sequence[Curve], size: str) -> Iterator[Line]:
    """Forward curves: a colour for each class, open symbols for all dtypes but the first."""
    classes = list(dict.fromkeys(curve.operator_class for curve in curves))
    dtypes = list(dict.fromkeys(curve.dtype for curve in curves))
    for curve in curves:
        points = [point for point in curve.points if getattr(point, size) > 0]
        if curve.backward or not points:
            continue
        points.sort(key=lambda point: (getattr(point, size), point.series))
        yield Line(
            name=f"{curve.operator_class} {curve.dtype}",
            x=tuple(getattr(point, size) for point in points),
            y=tuple(getattr(point, size) / point.seconds for point in points),
            group=classes.index(curve.operator_class),
            dash=dtypes.index(curve.dtype),
            texts=tuple(f"{curve.operator_class} {curve.dtype} {point.series}" for point in points),
            mode="markers",
        )


def _rates(profile: Profile) -> Iterator[tuple[str, list[str]]]:
    rows: dict[str, dict[str, Curve]] = {}
    for curve in profile.curves:
        rows.setdefault(f"{curve.operator_class}{' backward' if curve.backward else ''}", {})[curve.dtype] = curve
    for kind, curves in rows.items():
        yield kind, [best_rate(curves[dtype]) if dtype in curves else NOTHING for dtype in profile.dtypes]


def _state(profile: Profile) -> Iterator[tuple[str, Any]]:
    noise, state, settings = profile.noise, profile.state, profile.settings
    yield "Repetitions differ by", f"{noise.median_spread:.1%} (median), {noise.p90_spread:.1%} (90th percentile)"
    yield "Disturbed", f"{noise.disturbed:.1%} of the measured stretches"
    yield "Launch of an operator", f"{profile.launch_overhead_s * 1e6:.2f} µs"
    yield "Threads", settings.threads
    yield "Clock", None if state.clock_mhz is None else f"{state.clock_mhz:.0f} MHz"
    yield "Power limit", None if state.power_limit_w is None else f"{state.power_limit_w:g} W"
    yield "Temperature", None if state.temperature_c is None else f"{state.temperature_c:g} °C"
    yield "Held down by", state.throttled_because
    yield "Cores that others took", f"{state.other_cores:.2f}"
    yield "Software", f"Python {profile.software.python}, torch {profile.software.torch}, kit {profile.kit_version}"
    yield "float32 products", f"precision {settings.float32_matmul_precision}, TF32 {settings.matmul_allow_tf32}"
    if settings.environment:
        yield "Environment", ", ".join(f"{name}={value}" for name, value in sorted(settings.environment.items()))
