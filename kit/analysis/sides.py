"""Sides from what a person names: a record, the runs of an entry, a published result."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from kit.analysis.side import Capability, Goal, Side
from kit.errors import KitError
from kit.hardware.profile import Profile
from kit.hardware.roof import ProfileRoof
from kit.hardware.specs import spec_named
from kit.hardware.text import parse_hardware
from kit.results.published.dawnbench import (
    DAWNBENCH_PREFIX,
    FORWARD_LOG_ERROR,
    TASKS,
    DawnbenchEntry,
    find_dawnbench,
    plain_name,
)
from kit.results.record import Device, Record
from kit.results.store import RECORD_FILE, read_record, record_path

DAWNBENCH_CLOCK = "DAWNBench's, without validation"
KIT_CLOCK = "the kit's, which never pauses"

PROCESSORS = re.compile(r"\bv?(cpus?|cores?)\b", re.IGNORECASE)
NODES = re.compile(r"(?P<count>[1-9]\d*) nodes? (with )?(?P<machine>.*)", re.IGNORECASE)


def side_named(text: str, profiles: Sequence[Profile] = ()) -> Side:
    """The side that a person means: a record file, a run's folder, a folder of runs of one entry, or a published id.

    Args:
        text: What it is called.
        profiles: Measured profiles; one of the side's device is used.

    Raises:
        KitError: There is nothing of that name, or it has no time to its target.
    """
    if text.startswith(DAWNBENCH_PREFIX):
        return side_of_published(find_dawnbench(text))
    path = Path(text)
    if not path.exists():
        raise KitError(
            f"{text}: there is nothing here; expected a record, a run's folder, a folder of one entry's runs, "
            f"or a published entry as {DAWNBENCH_PREFIX}CIFAR10/diux_cifar_p3"
        )
    if record_path(path).is_file():
        return side_of_records([read_record(path)], text, profiles)
    found = sorted(path.glob(f"*/{RECORD_FILE}"))
    if not found:
        raise KitError(f"{text}: there is no {RECORD_FILE} here, nor in the folders below it")
    return side_of_records([read_record(file) for file in found], text, profiles)


def sides_named(a: str, b: str, profiles: Sequence[Profile] = ()) -> tuple[Side, Side]:
    """Both sides of a comparison.

    Raises:
        KitError: As `side_named`, or a profile is of neither side's device.
    """
    sides = side_named(a, profiles), side_named(b, profiles)
    used = [side.capability.profile for side in sides]
    for profile in profiles:
        if not any(isinstance(roof, ProfileRoof) and roof.profile == profile for roof in used):
            devices = " and ".join(dict.fromkeys(side.capability.name for side in sides))
            raise KitError(
                f"profile {profile.id} is of {profile.device.name} with {profile.device.threads} threads; "
                f"expected one of {devices}"
            )
    return sides


def side_of_records(records: Sequence[Record], name: str, profiles: Sequence[Profile] = ()) -> Side:
    """The runs of one entry, or one run.

    Raises:
        KitError: They are not of one submission, track and device, or there is no median time to the target.
    """
    records = [record for record in records if record.outcome != "cancelled" and _on_published(record)] or records
    first = records[0]
    for what in ("track", "submission", "config", "device"):
        different = {_identity(record)[what]: record for record in records}
        if len(different) > 1:
            shown = ", ".join(list(dict.fromkeys(_shown(record, what) for record in different.values()))[:4])
            raise KitError(f"{name}: expected the runs of one entry, got runs of {len(different)} {what}s: {shown}")
    if len(records) == 1 and first.time.to_target_s is None:
        raise KitError(
            f"{name}: the run has no time to the target: {first.outcome}, {first.reason or 'no reason given'}"
        )
    times_s = tuple(math.inf if record.time.to_target_s is None else record.time.to_target_s for record in records)
    flops, unknown_because = _flops(records)
    track = first.track
    return Side(
        name=name,
        goal=Goal(
            track.dataset,
            track.metric,
            track.target,
            track.name,
            track.version,
            track.dataset_fingerprint,
            track.rehearsal,
        ),
        times_s=times_s,
        capability=_capability(first.device, profiles),
        devices=first.device.count,
        flops=flops,
        flops_method="counted",
        flops_unknown_because=unknown_because,
        operators=tuple(
            row
            for record in records
            if flops is not None and record.time.to_target_s is not None
            for row in record.flops.operators
            if row.phase != "evaluation"
        ),
        clock=KIT_CLOCK,
    )


def side_of_published(entry: DawnbenchEntry) -> Side:
    """A row of DAWNBench: one run, its operations known only where its model and image size are.

    Entries with one recipe: the same team (or another that ran its code), model and declared length. Entries with one
    network: the same team, model, code repository and image size; without a constant image size it takes one recipe.
    """
    task = TASKS[entry.task]
    capability, devices = _published_hardware(entry.hardware_read_as or entry.hardware)
    recipe = entry.recipe
    team_and_model = f"{recipe.author}|{plain_name(recipe.model)}"
    flops = entry.training_flops
    return Side(
        name=entry.id,
        goal=Goal(task.dataset, task.metric, task.target),
        times_s=(entry.time_to_target_s,),
        capability=capability,
        devices=devices,
        flops=None if flops is None else (flops,),
        flops_method="estimated",
        flops_log_error=FORWARD_LOG_ERROR,
        flops_unknown_because=None
        if flops
        else f"none are published, and none known of {entry.model} at its image sizes",
        samples=entry.samples_to_target,
        network=f"{team_and_model}|{recipe.code_repository}|{entry.image_px} px" if entry.image_px else None,
        recipe=f"{entry.task}|{team_and_model}|{recipe.rows_in_tsv} epochs",
        clock=DAWNBENCH_CLOCK,
    )


def _published_hardware(text: str) -> tuple[Capability, int | None]:
    """What a text names, and how many; processors are counted in machines."""
    try:
        hardware = parse_hardware(text)
    except KitError:
        nodes = NODES.match(text)
        if nodes is not None:
            return Capability(nodes["machine"]), int(nodes["count"])
        return Capability(text), 1 if PROCESSORS.search(text) else None
    return Capability(hardware.spec.name, hardware.spec, assumed=hardware.assumed), hardware.count


def _on_published(record: Record) -> bool:
    """Whether it is a result on the track's own data, and no check by an organizer on other ones."""
    return record.official is None or record.official.split == "published"


def _identity(record: Record) -> dict[str, str]:
    """What the runs of one entry share."""
    track, submission, device = record.track, record.submission, record.device
    return {
        "track": f"{track.name}|{track.version}|{track.dataset_fingerprint}|{track.target}",
        "submission": f"{submission.name}|{submission.source_sha256}",
        "config": repr(sorted(submission.config.items())),
        "device": f"{device.name}|{device.count}|{device.threads}",
    }


def _shown(record: Record, what: str) -> str:
    """The same, for a message."""
    return {
        "track": f"{record.track.name} version {record.track.version}",
        "submission": f"{record.submission.name} {record.submission.source_sha256[:8]}",
        "config": " ".join(f"{name}={value}" for name, value in record.submission.config.items()),
        "device": f"{record.device.count} x {_capability(record.device).name}",
    }[what]


def _capability(device: Device, profiles: Sequence[Profile] = ()) -> Capability:
    roof = next((ProfileRoof(profile) for profile in profiles if profile.is_of(device)), None)
    if device.type == "cpu":
        return Capability(f"{device.name}, {device.threads} threads", profile=roof)
    spec = spec_named(device.name)
    return Capability(device.name if spec is None else spec.name, spec, profile=roof)


def _flops(records: Sequence[Record]) -> tuple[tuple[float, ...] | None, str | None]:
    """Training operations of each run, infinite where it missed; or why not all are known."""
    flops: list[float] = []
    for record in records:
        if record.time.to_target_s is None:
            flops.append(math.inf)
            continue
        reason = record.flops.not_rated_because
        if reason is None and not record.flops.train_total:
            reason = "the count is 0"
        if reason is not None:
            which = "" if len(records) == 1 else f"run {record.id}: "
            return None, f"{which}{reason}"
        flops.append(float(record.flops.train_total or 0))
    return tuple(flops), None
