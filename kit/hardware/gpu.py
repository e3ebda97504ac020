"""Which GPUs a run gets, by UUID from here on: NVML and CUDA may count the same devices in another order."""

import os
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

from kit.errors import KitError

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"


@dataclass(frozen=True)
class _Device:
    uuid: str
    name: str
    place: tuple[int, int, int]
    """On the PCI bus."""


def visible_uuid(library: Any) -> str | None:
    """UUID of the GPU (or of the MIG instance) that CUDA would show a program first; None where it would show none.

    Args:
        library: The NVML binding, initialised.

    Raises:
        KitError: CUDA_VISIBLE_DEVICES names what is not there, or says an index that CUDA could count in two ways.
    """
    return next(iter(visible_uuids(library, 1)), None)


def visible_uuids(library: Any, count: int) -> tuple[str, ...]:
    """UUIDs of the first GPUs that CUDA would show a program, `count` of them or as many as there are.

    Args:
        library: The NVML binding, initialised.
        count: How many are wanted.

    Raises:
        KitError: CUDA_VISIBLE_DEVICES names what is not there, or says an index that CUDA could count in two ways.
    """
    devices = _devices(library)
    visible = os.environ.get(VISIBLE)
    entries = map(str, range(len(devices))) if visible is None else map(str.strip, visible.split(","))
    shown = takewhile(lambda entry: entry not in ("", "-1"), entries)  # CUDA shows nothing from there on
    return tuple(_named(library, devices, entry) for entry in islice(shown, count))


def _named(library: Any, devices: list[_Device], entry: str) -> str:
    if entry.isdigit():
        return _by_index(devices, entry)
    if entry.startswith("MIG-"):
        return _mig(library, entry)
    found = [device.uuid for device in devices if device.uuid.startswith(entry)]
    if len(found) != 1:
        there = ", ".join(device.uuid for device in devices) or "none"
        raise KitError(f"{VISIBLE}={entry} means {len(found)} of this machine's GPUs; expected one of: {there}")
    return found[0]


def gpu_handle(library: Any) -> Any:
    """NVML's handle of that GPU.

    Raises:
        KitError: None is visible, or it is not clear which.
    """
    uuid = visible_uuid(library)
    if uuid is None:
        raise KitError(f"no GPU is visible: {VISIBLE}={os.environ.get(VISIBLE, '')} hides all there are")
    return library.nvmlDeviceGetHandleByUUID(uuid)


def _devices(library: Any) -> list[_Device]:
    """By place on the PCI bus: what CUDA_DEVICE_ORDER=PCI_BUS_ID counts by."""
    devices = []
    for index in range(library.nvmlDeviceGetCount()):
        handle = library.nvmlDeviceGetHandleByIndex(index)
        pci = library.nvmlDeviceGetPciInfo(handle)
        devices.append(
            _Device(
                uuid=library.nvmlDeviceGetUUID(handle),
                name=library.nvmlDeviceGetName(handle),
                place=(pci.domain, pci.bus, pci.device),
            )
        )
    return sorted(devices, key=lambda device: device.place)


def _by_index(devices: list[_Device], entry: str) -> str:
    """By default CUDA puts the fastest first, and like ones in the order of the bus."""
    names = sorted({device.name for device in devices})
    if len(names) > 1 and os.environ.get(ORDER) != "PCI_BUS_ID":
        raise KitError(
            f"this machine has different GPUs ({', '.join(names)}): name one by UUID in {VISIBLE}, "
            f"or count by bus with {ORDER}=PCI_BUS_ID; nvidia-smi -L lists them"
        )
    if int(entry) >= len(devices):
        raise KitError(f"{VISIBLE}={entry}: this machine has {len(devices)} GPUs, and the first is 0")
    return devices[int(entry)].uuid


def _mig(library: Any, entry: str) -> str:
    try:
        handle = library.nvmlDeviceGetHandleByUUID(entry)
    except library.NVMLError as error:
        raise KitError(f"{VISIBLE}={entry}: there is no such MIG instance; nvidia-smi -L lists them") from error
    uuid: str = library.nvmlDeviceGetUUID(handle)
    return uuid
