"""A referee for machine learning: time, energy and arithmetic to a fixed accuracy.

What a submission imports is here, and only here: `Run` and `Verdict`. They are loaded on first use, so that commands
which train nothing start at once.
"""

from typing import TYPE_CHECKING, Any

from kit.version import __version__

if TYPE_CHECKING:
    from kit.trainer.run import Run, Verdict

__all__ = ["Run", "Verdict", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Run", "Verdict"):
        from kit.trainer import run

        return getattr(run, name)
    raise AttributeError(f"module 'kit' has no attribute {name!r}")
