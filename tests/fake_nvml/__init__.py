"""A fake libnvidia-ml.so.1 with scripted devices of known energy, for tests and benchmarks without a GPU.

nvml.c says what a script can hold. A process sees the fake when it is started with `environment`: pynvml then loads it
as it would load the driver's, and keeps it for the life of the process.
"""

import ctypes
import os
import subprocess
from pathlib import Path
from time import monotonic

SOURCE = Path(__file__).with_name("nvml.c")
LIBRARY = "libnvidia-ml.so.1"


def build(folder: Path) -> Path:
    """Compile the library into `folder` with the system's compiler.

    Raises:
        FileNotFoundError: There is no compiler.
    """
    library = folder / LIBRARY
    command = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-shared", f"-Wl,-soname,{LIBRARY}"]
    subprocess.run([*command, "-o", library, SOURCE, "-lm", "-lpthread"], check=True)
    return library


class FakeNvml:
    """One scripted world.

    Args:
        library: What `build` made.
        script: The file that is to hold the script.
        text: The script. Its times count from now, unless it sets `origin` or `now` itself.
    """

    def __init__(self, library: Path, script: Path, text: str) -> None:
        self.library, self.script = library, script
        self.origin_s = monotonic()
        self.text = ""
        self.rewrite(text)

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, changed so that a new process finds the fake."""
        others = os.environ.get("LD_LIBRARY_PATH")
        python_path = f"{SOURCE.parents[2]}:{SOURCE.parents[1]}"
        path = f"{self.library.parent}:{others}" if others else str(self.library.parent)
        return os.environ | {"LD_LIBRARY_PATH": path, "FAKE_NVML": str(self.script), "PYTHONPATH": python_path}

    @property
    def now_s(self) -> float:
        """The script's time."""
        return monotonic() - self.origin_s

    def rewrite(self, text: str) -> None:
        """Replace the script; times still count from the same moment."""
        self.text = text
        partial = self.script.with_suffix(".partial")
        partial.write_text(f"origin {self.origin_s!r}\n{text}\n")
        partial.replace(self.script)

    def add(self, *lines: str) -> None:
        """Append lines, which belong to the script's last device."""
        self.rewrite("\n".join([self.text, *lines]))

    def true_j(self, start_s: float, stop_s: float, device: int = 0) -> float:
        """Joules of a device between two times of the script, whatever its counter and its sensor say."""
        before = os.environ.get("FAKE_NVML")
        os.environ["FAKE_NVML"] = str(self.script)
        try:
            energy = ctypes.CDLL(str(self.library)).fakeTrueEnergy
            energy.restype = ctypes.c_double
            return float(energy(ctypes.c_uint(device), ctypes.c_double(start_s), ctypes.c_double(stop_s)))
        finally:
            if before is None:
                del os.environ["FAKE_NVML"]
            else:
                os.environ["FAKE_NVML"] = before
