"""One window under all meters, in a process of its own that sees the fake NVML; for tests and benchmarks."""

import json
import os
import sys
import time
from pathlib import Path
from time import monotonic_ns
from typing import Any

from fake_nvml import FakeNvml

from kit.meters.meters import Meters

UUID = "GPU-fa4e0000-0000-4000-8000-000000000000"
"""Of the fake's first device, where its script names no other."""


def request(fake: FakeNvml, folder: Path, *, window_s: float, load: str, **more: Any) -> list[str]:
    """The command that plays a window, to be run with the fake's environment.

    Args:
        fake: Its script is what goes on before the window; `SELF` in it becomes the process's id.
        folder: For the trace.
        window_s: Length of the window.
        load: Power in the window, as in `constant 300`; around it the script has 70 W.
        more: `events` are further lines for the script, with the seconds after `go` that stand for {0}, {1} in them;
            `unrest` is power between setup and `go`, `rest` after the window; `step_s`, `allow_busy`, `uuid`,
            or `uuids` of the first devices.
    """
    content = {"script": str(fake.script), "library": str(fake.library), "origin_s": fake.origin_s, "text": fake.text}
    content |= {"folder": str(folder), "window_s": window_s, "load": load, "uuid": UUID, **more}
    return [sys.executable, __file__, json.dumps(content)]


def play(wanted: dict[str, Any]) -> dict[str, Any]:
    """Run one window, and say what the meters read and what is true."""
    text = wanted["text"].replace("SELF", str(os.getpid()))
    fake = FakeNvml(Path(wanted["library"]), Path(wanted["script"]), text)
    uuids = wanted.get("uuids", [wanted["uuid"]])
    meters = Meters.of(uuids, allow_busy=wanted.get("allow_busy", False))
    meters.start()
    if "unrest" in wanted:
        fake.add(f"power {fake.now_s} {wanted['unrest']}")
    meters.settle(os.getpid())
    meters.align()
    go_ns = monotonic_ns()
    stop_ns = go_ns + int(wanted["window_s"] * 1e9)
    go_s, stop_s = go_ns / 1e9 - fake.origin_s, stop_ns / 1e9 - fake.origin_s
    fake.add(
        *(line.format(*(go_s + after_s for after_s in times)) for line, *times in wanted.get("events", [])),
        f"power {go_s} {wanted['load']}",
        f"power {stop_s} {wanted.get('rest', 'constant 70')}",
    )
    time.sleep(max(0.0, (stop_ns - monotonic_ns()) / 1e9))
    meters.look()
    meters.finish(stop_ns)
    folder = Path(wanted["folder"])
    readings = meters.read(folder, go_ns, stop_ns, step_s=wanted.get("step_s"), torch_peak_bytes=None)
    parts = {"energy": readings.energy, "memory": readings.memory, "conditions": readings.conditions}
    true_j = sum(fake.true_j(go_s, stop_s, device) for device in range(len(uuids)))
    return {"true_j": true_j} | {
        name: None if part is None else part.model_dump() for name, part in (parts | {"trace": readings.trace}).items()
    }


if __name__ == "__main__":
    print(json.dumps(play(json.loads(sys.argv[1]))))
