"""Energy of the CPU packages from RAPL, as Linux shows it under /sys/class/powercap.

Each package has a counter in microjoules that wraps around; it is read often enough to notice. `psys` covers the
packages and more, and is not added to them. Since CVE-2020-8694 the counters are readable by root alone, unless the
owner of the machine allows more.
"""

from itertools import pairwise
from pathlib import Path
from time import monotonic_ns

import numpy as np
from numpy.typing import NDArray

from kit.meters.nvml import Unavailable
from kit.meters.poll import Columns, Poller

ROOT = Path("/sys/class/powercap")
POLL_S = 0.02
MAX_W = 5000.0
"""Of one package: more than this after a wrap-around was no wrap-around."""


class RaplMeter:
    """Follows the counters of all packages in a thread.

    Args:
        root: The powercap folder.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._reason: str | None = None
        self._files: list[Path] = []
        self._ranges_uj: list[int] = []
        try:
            self._open(root)
        except Unavailable as error:
            self._reason = str(error)
        self._rows = Columns("at_ns", *(str(file) for file in self._files))
        self._poller = Poller("rapl", self._look)

    def start(self) -> None:
        """Begin to follow."""
        if self._reason is None:
            self._poller.start()

    def stop(self) -> None:
        """Stop, with a last reading. Safe to call twice."""
        self._poller.stop()
        if self._reason is None and self.rows:
            self._look()

    @property
    def rows(self) -> int:
        """How often the counters were read."""
        return len(self._rows.read()["at_ns"])

    def energy_j(self, start_ns: int, stop_ns: int) -> tuple[float | None, str | None]:
        """Joules of all packages in a window, or why they are not known."""
        if self._reason is not None:
            return None, self._reason
        rows = self._rows.read()
        at_ns = rows.pop("at_ns")
        if len(at_ns) < 2 or not at_ns[0] <= start_ns <= stop_ns <= at_ns[-1]:
            return None, "RAPL: the counters were not read from before the window until after it"
        total_j = 0.0
        for range_uj, (name, values) in zip(self._ranges_uj, rows.items(), strict=True):
            course_uj = np.concatenate([[0], np.cumsum(self._steps(values, range_uj))])
            most_uj = MAX_W * 1e6 * float(np.diff(at_ns).max()) / 1e9
            if (np.diff(course_uj) > most_uj).any():
                return None, f"RAPL: the counter of {Path(name).parent.name} jumped"
            first_uj, last_uj = np.interp([start_ns, stop_ns], at_ns, course_uj)
            total_j += float(last_uj - first_uj) / 1e6
        return total_j, None

    @staticmethod
    def _steps(values: NDArray[np.int64], range_uj: int) -> list[int]:
        return [int(after - before) % (range_uj + 1) for before, after in pairwise(values)]

    def _open(self, root: Path) -> None:
        for folder in sorted(root.glob("intel-rapl:*")):  # AMD's packages carry this name too; -mmio repeats them
            if folder.name.count(":") == 1 and _text(folder / "name").startswith("package"):
                self._files.append(folder / "energy_uj")
                self._ranges_uj.append(int(_text(folder / "max_energy_range_uj")))
        if not self._files:
            raise Unavailable("RAPL: this machine shows no CPU package (virtual machines and containers often do not)")
        for file in self._files:
            int(_text(file))

    def _look(self) -> float | None:
        try:
            values = [int(_text(file)) for file in self._files]
        except Unavailable as error:
            self._reason = str(error)
            return None
        self._rows.append(monotonic_ns(), *values)
        return POLL_S


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError:
        raise Unavailable(f"RAPL: {path} is readable by root alone; its owner can allow it with chmod a+r") from None
    except OSError as error:
        raise Unavailable(f"RAPL: {path}: {error.strerror}") from None
