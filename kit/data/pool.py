"""Work spread over processes, in order of arrival, without anything left behind when the caller is killed."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from kit.errors import KitError

J = TypeVar("J")
R = TypeVar("R")

QUEUED_PER_WORKER = 2


def usable_cores() -> int:
    """Cores that this process may run on: of a run of several ranks, its share."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def spread(work: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R]:
    """As `Workers.spread`, with workers of its own."""
    with Workers() as workers:
        yield from workers.spread(work, jobs)


class Workers:
    """Processes, one per core, for as long as the context lasts. To be made before the caller starts threads."""

    def __init__(self) -> None:
        # Forked ones begin at once and share memory; others would first import the caller's main module again.
        context = multiprocessing.get_context("fork")
        self._count = usable_cores()
        self._pool = ProcessPoolExecutor(self._count, mp_context=context, initializer=_in_worker)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def spread(self, work: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R]:
        """Results of `work` on every job, as they come; `work` and jobs must be picklable.

        Raises:
            KitError: A worker was killed.
            Exception: What `work` raised first; jobs that have not begun are dropped.
        """
        running: set[Future[R]] = set()
        try:
            for job in jobs:
                running.add(self._pool.submit(work, job))
                if len(running) >= QUEUED_PER_WORKER * self._count:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool:
            raise KitError("a worker process was killed (out of memory?); the same command goes on from here") from None


def _in_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the caller ends the work
    threading.Thread(target=_die_with_caller, daemon=True).start()


def _die_with_caller() -> None:
    """Workers hold both ends of their queue and would wait for ever for a caller that is gone."""
    caller = multiprocessing.parent_process()
    assert caller is not None
    caller.join()
    os._exit(1)
