"""The same events to Weights & Biases, from the referee: the trainer never reaches it."""

from pathlib import Path
from typing import Any, Literal

from kit.results.events import Completed, Evaluated, Event, Logged, Started


class WandbLogger:
    """An observer that logs to wandb; offline unless asked, and then `wandb sync` uploads it later.

    Args:
        project: wandb project.
        mode: "offline" or "online".
        folder: Where wandb keeps its files.
        config: What to show as the run's configuration.
    """

    def __init__(self, project: str, mode: Literal["offline", "online"], folder: Path, config: dict[str, Any]) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        # Started before the trainer: its service must not start while the clock runs.
        self._run = wandb.init(
            project=project,
            mode=mode,
            dir=folder,
            config=config,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def on_event(self, event: Event) -> None:
        """Log it."""
        match event:
            case Started():
                self._run.name = event.run_id
            case Evaluated():
                self._run.log({"elapsed_s": event.elapsed_s, "value": event.value})
            case Logged():
                self._run.log({"elapsed_s": event.elapsed_s, **event.scalars})
            case Completed():
                self._run.summary.update(event.record.model_dump(mode="json"))

    def close(self) -> None:
        """Finish the wandb run."""
        self._run.finish()
