"""How far long work is: a bar on a terminal, a line now and then in a pipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_EVERY_S = 10.0

Tell = Callable[[int, int], None]


class _Rate(ProgressColumn):
    def __init__(self, unit: str, scale: float) -> None:
        self._unit, self._scale = unit, scale
        super().__init__()

    def render(self, task: Task) -> Text:
        done = f"{task.completed / self._scale:,.0f} of {(task.total or 0) / self._scale:,.0f} {self._unit}"
        return Text(done if task.speed is None else f"{done}, {task.speed / self._scale:,.0f} {self._unit}/s")


@contextmanager
def progress(console: Console, what: str, *, unit: str, scale: float = 1) -> Iterator[Tell]:
    """Gives a function to call with what is done and what there is to do; nothing is shown before its first call.

    Args:
        console: Where to.
        what: "preparing glyphs".
        unit: Of `scale` each: unit "MB" and scale 1e6 for bytes.
        scale: See unit.
    """
    if not console.is_terminal:
        yield _Lines(console, what, unit, scale)
        return
    bar = Progress(
        TextColumn(what), BarColumn(), _Rate(unit, scale), TimeRemainingColumn(), console=console, transient=True
    )
    task = bar.add_task(what, total=None)

    def tell(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield tell
    finally:
        bar.stop()


class _Lines:
    def __init__(self, console: Console, what: str, unit: str, scale: float) -> None:
        self._console, self._what, self._unit, self._scale = console, what, unit, scale
        self._first: tuple[float, int] | None = None
        self._said_s = 0.0

    def __call__(self, done: int, total: int) -> None:
        now_s = monotonic()
        if self._first is None:
            self._first, self._said_s = (now_s, done), now_s
        elif now_s - self._said_s >= LINE_EVERY_S and done > self._first[1]:
            self._said_s = now_s
            per_s = (done - self._first[1]) / (now_s - self._first[0])
            self._console.print(
                f"{self._what}: {done / self._scale:,.0f} of {total / self._scale:,.0f} {self._unit}, "
                f"{per_s / self._scale:,.0f} {self._unit}/s, {(total - done) / per_s:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )


@contextmanager
def working(console: Console) -> Iterator[Callable[[str], None]]:
    """Gives a function to call with what is being done; only a terminal shows it, and what was printed stays above."""
    if not console.is_terminal:
        yield lambda line: None
        return
    with console.status("") as status:
        yield lambda line: status.update(escape(line))
