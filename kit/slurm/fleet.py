"""Making many runs with SLURM: submit, wait, take in what they left, make again what was lost.

Nothing is read from SLURM but whether a job still waits or runs: what a run came to is known from the files that it
left. So no database for `sacct` is needed, one bad run hides no other, and whoever waits may be killed.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from kit.errors import KitError
from kit.slurm.queue import JobState, jobs_named, max_array_size
from kit.slurm.settings import SlurmSettings

T = TypeVar("T", bound=Hashable)
T_contra = TypeVar("T_contra", bound=Hashable, contravariant=True)
Place = tuple[str, int]
"""A job: the name that its array was submitted under, and its place there."""


@dataclass(frozen=True)
class Submitted:
    """An array of jobs."""

    name: str
    jobs: Sequence[str]
    """Ids, as SLURM gave them."""


@dataclass(frozen=True)
class Ended:
    """A job that no longer waits or runs."""

    place: Place
    job: str | None
    """Its id; None where it was never learned."""
    state: str | None
    """SLURM's word for how; None where it has forgotten the job."""
    node: str | None
    late: bool
    """Whether there was time enough for all it wrote to be seen here."""

    def __str__(self) -> str:
        job = "its job" if self.job is None else f"job {self.job}"
        end = "is gone" if self.state is None else f"ended as {self.state}"
        return f"{job} {end}{f' on {self.node}' if self.node else ''}"


Settled = Literal["made", "lost", "unseen"]


class Work(Protocol[T_contra]):
    """What is made."""

    def submit(self, tasks: Sequence[T_contra]) -> Submitted:
        """Hand these to SLURM, in this order."""
        ...

    def settle(self, task: T_contra, ended: Ended, *, again: bool) -> Settled:
        """Take in what a job left.

        Args:
            task: What it was for.
            ended: How it ended; only where that is `late` may something be lost.
            again: Whether it would be made again.

        Returns:
            `unseen` where what it left may still be on its way.
        """
        ...


@dataclass
class _Flight(Generic[T]):
    task: T
    job: str | None
    seen: JobState | None = None
    ended_at: float | None = None


@dataclass
class Fleet(Generic[T]):
    """Jobs under way."""

    settings: SlurmSettings
    work: Work[T]
    say: Callable[[str], None]
    begin: Callable[[str], None]
    later: str
    """Where results are found by whoever does not wait."""
    _flying: dict[Place, _Flight[T]] = field(default_factory=dict)

    def adopt(self, name: str, tasks: dict[int, T]) -> None:
        """Also wait for jobs that were submitted before, by their places in the array of that name."""
        self._flying |= {(name, place): _Flight(task, None) for place, task in tasks.items()}

    def make(self, tasks: Sequence[T]) -> list[T]:
        """Submit tasks and wait; or, with `wait: false`, leave when all are submitted.

        Returns:
            What was lost, as often as it was made again.

        Raises:
            KitError: SLURM takes no jobs, or does not answer for long.
            KeyboardInterrupt: Somebody ended the waiting; the jobs go on.
        """
        waiting, losses, lost = deque(tasks), Counter[T](), list[T]()
        at_once = min(self.settings.max_queued, max_array_size())
        answered = time.monotonic()
        of, told = len(waiting) + len(self._flying), ""
        try:
            while waiting or self._flying:
                states = jobs_named({name for name, _ in self._flying}) if self._flying else {}
                if states is None:
                    if time.monotonic() - answered > self.settings.silent_s:
                        raise KitError(f"SLURM has not answered for {self.settings.silent_s:g} s; the jobs may go on")
                    self.begin("SLURM does not answer; asking again")
                    time.sleep(self.settings.poll_s)
                    continue
                answered = time.monotonic()
                for task in self._settle(states, losses):
                    losses[task] += 1
                    (waiting if losses[task] <= self.settings.retries else lost).append(task)
                room = at_once - len(self._flying)
                if waiting and room >= min(len(waiting), max(1, at_once // 4)):
                    self._submit([waiting.popleft() for _ in range(min(room, len(waiting)))], waiting)
                    continue
                if not self.settings.wait and not any(flight.ended_at for flight in self._flying.values()):
                    self._say_left(len(waiting))
                    break
                if (line := self._progress(of, waiting)) != told:
                    self.begin(told := line)
                if waiting or self._flying:
                    time.sleep(self.settings.poll_s)
        except BaseException:
            if self._flying:
                self.say(f"the jobs go on; {self.later}, and scancel --name={self._names()} ends them")
            raise
        return lost

    def _settle(self, states: dict[Place, JobState], losses: Counter[T]) -> list[T]:
        """Take in what has ended; what of it was lost."""
        lost = []
        for place, flight in list(self._flying.items()):
            state = states.get(place)
            flight.seen = state or flight.seen
            if state is not None and state.live:
                flight.ended_at = None
                continue
            now = time.monotonic()
            flight.ended_at = flight.ended_at or now
            seen = flight.seen
            ended = Ended(
                place=place,
                job=seen.id if seen is not None else flight.job,
                state=state.state if state is not None else None,
                node=seen.node if seen is not None and seen.node else None,
                late=now - flight.ended_at >= self.settings.settle_s,
            )
            settled = self.work.settle(flight.task, ended, again=losses[flight.task] < self.settings.retries)
            if settled != "unseen":
                del self._flying[place]
            if settled == "lost":
                lost.append(flight.task)
        return lost

    def _submit(self, tasks: list[T], waiting: "deque[T]") -> None:
        try:
            submitted = self.work.submit(tasks)
        except KitError as error:
            if not self._flying:
                raise
            waiting.extendleft(reversed(tasks))  # a limit on jobs per user: there is room when some have ended
            self.begin(str(error))
            time.sleep(self.settings.poll_s)
            return
        for number, (task, job) in enumerate(zip(tasks, submitted.jobs, strict=True)):
            self._flying[submitted.name, number] = _Flight(task, job)
        first = submitted.jobs[0].partition("_")[0]
        self.say(f"{len(tasks)} {'run' if len(tasks) == 1 else 'runs'} submitted as job {first}")

    def _progress(self, of: int, waiting: "deque[T]") -> str:
        seen = [flight.seen for flight in self._flying.values() if flight.ended_at is None and flight.seen is not None]
        running = sum(state.state != "PENDING" for state in seen)
        pending = Counter(state.reason for state in seen if state.state == "PENDING")
        line = f"{of - len(waiting) - len(self._flying)} of {of} runs are over, {running} run"
        if pending:
            line += f", {pending.total()} are in the queue ({', '.join(sorted(pending))})"
        return line + (f", {len(waiting)} are not submitted yet" if waiting else "")

    def _say_left(self, waiting: int) -> None:
        if self._flying:
            more = f", {waiting} more are to be submitted" if waiting else ""
            end = f"scancel --name={self._names()} ends them"
            self.say(f"{runs_are(len(self._flying))} with SLURM{more}; {self.later}, and {end}")

    def _names(self) -> str:
        return ",".join(sorted({name for name, _ in self._flying}))


def runs_are(count: int) -> str:
    """The beginning of a sentence on so many runs."""
    return "1 run is" if count == 1 else f"{count} runs are"
