"""What a run shows while it goes on: one updating line on a terminal, plain lines in a pipe."""

from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kit.report.plain import escape
from kit.report.show import summary
from kit.results.events import ClockStarted, Completed, CountStarted, Ended, Evaluated, Event, Logged, Started, Waiting

REFRESH_PER_S = 4
"""The referee shares the machine with what it times."""


class Display:
    """An observer that prints."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._phase = "setup"
        self._since = monotonic()
        self._target = 1.0
        self._progress = ""
        self._score = ""

    def on_event(self, event: Event) -> None:
        """Show it."""
        match event:
            case Waiting():
                self._say(event.message)
            case Started():
                self._target = event.track.target
                self._say(f"{event.submission} on {event.track.name}, seed {event.seed}, {event.device}: setting up")
                self._enter("setup")
            case ClockStarted():
                self._say(f"setup took {event.setup_s:.1f} s; the clock runs")
                self._enter("training")
            case Logged():
                self._progress = "  ".join(
                    f"{name} {'nan' if value is None else format(value, '.4g')}"
                    for name, value in event.scalars.items()
                )
            case Evaluated():
                joules = "" if event.device_j is None else f"  {event.device_j:.0f} J"
                self._score = f"{event.value:.3%} of {self._target:.3%}{joules}"
                self._say(f"{event.elapsed_s:8.3f} s  {self._score}")
            case Ended():
                self._leave()
            case CountStarted():
                self._say("counting operations in a replay")
                self._enter("replay")
            case Completed():
                self._leave()
                for line in summary(event.record, event.path):
                    self._console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._leave()

    def __rich__(self) -> Text:
        return Text(f"{self._phase} {monotonic() - self._since:6.1f} s  {self._score}  {self._progress}", style="cyan")

    def _say(self, line: str) -> None:
        self._console.print(escape(line), highlight=False, soft_wrap=True)

    def _enter(self, phase: str) -> None:
        self._phase, self._since = phase, monotonic()
        if self._console.is_terminal and self._live is None:
            self._live = Live(self, console=self._console, refresh_per_second=REFRESH_PER_S, transient=True)
            self._live.start()

    def _leave(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
