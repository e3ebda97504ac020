"""The ranks of a run among themselves: rank 0 speaks to the referee, and every other one to rank 0.

Each has a socket to rank 0 of its own. On it go the messages that a trainer exchanges with the referee, so a rank other
than 0 has in rank 0 what rank 0 has in the referee; the data's descriptor reaches it in the same way, after `go`.
"""

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import sleep
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from kit.protocol import (
    TO_REFEREE,
    TO_TRAINER,
    Channel,
    Done,
    Failed,
    Go,
    Job,
    Message,
    Predictions,
    ProtocolError,
    Ready,
    Received,
    Scored,
    ToReferee,
    ToTrainer,
)
from kit.trainer.tally import together

if TYPE_CHECKING:
    import torch

MAX_PAYLOAD_BYTES = 1 << 30
"""Of predictions, between two processes of one submission."""
STILL_S = 1.0
"""A rank that fails keeps still for so long: where another one has died, that is the reason, and the run ends by it."""
MEET_S = 300.0
"""Ranks that import for the first time can be far apart."""

M = TypeVar("M", bound=Message)


class RanksApart(Exception):  # noqa: N818 - shown by its name
    """Ranks do not do the same, or not at the same time."""


class Link(ABC):
    """What connects one rank to the run."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size

    @abstractmethod
    def job(self) -> Job | None:
        """What to run; None when the run has ended."""

    @abstractmethod
    def ready(self, threads: int) -> int:
        """Setup is done: wait for `go`, and return the descriptor of the data."""

    @abstractmethod
    def say(self, message: ToReferee) -> None:
        """Tell the referee what happens on all ranks alike: rank 0 does."""

    @abstractmethod
    def verdict(self, predictions: NDArray[np.int32], shares: Sequence[NDArray[np.int64]], wait_s: float) -> Scored:
        """Have the predictions of all ranks scored.

        Args:
            predictions: Of this rank's test images, (n, k).
            shares: Numbers of the test images that each rank predicts.
            wait_s: How long to wait for the others.

        Raises:
            RanksApart: One did not come.
        """

    @abstractmethod
    def done(self, done: Done, wait_s: float) -> None:
        """Training returned. Returns when nobody wants to look at this process any more.

        Raises:
            RanksApart: On another rank it did not.
        """

    @abstractmethod
    def failed(self, failure: Failed) -> None:
        """This rank failed."""


class Leader(Link):
    """Rank 0, or the only one.

    Args:
        referee: The connection to it.
        followers: Those to the other ranks, from rank 1 on.
    """

    def __init__(self, referee: "Channel[ToTrainer]", followers: "Sequence[Channel[ToReferee]]" = ()) -> None:
        super().__init__(0, 1 + len(followers))
        self._referee = referee
        self._followers = followers
        self._heard: list[SimpleQueue[Received[ToReferee]]] = [SimpleQueue() for _ in followers]
        self._sending = Lock()
        self._told = Event()

    def job(self) -> Job | None:
        """Pass it on, and begin to listen to the others."""
        received = self._referee.receive()
        if received is None or not isinstance(received.message, Job):
            return None
        self._to_all(received.message)
        for rank in range(1, self.world_size):
            Thread(target=self._listen, args=(rank,), name=f"rank {rank}", daemon=True).start()
        return received.message

    def ready(self, threads: int) -> int:
        """When all are."""
        others = [self._take(rank, Ready, None).threads for rank in range(1, self.world_size)]
        self.say(Ready(threads=threads + sum(others)))
        received = self._referee.receive()
        if received is None or not isinstance(received.message, Go) or received.descriptor is None:
            raise SystemExit("the referee ended the run")
        for follower in self._followers:
            follower.send(received.message, descriptor=received.descriptor)
        return received.descriptor

    def say(self, message: ToReferee) -> None:
        """Say it."""
        with self._sending:
            self._referee.send(message)

    def verdict(self, predictions: NDArray[np.int32], shares: Sequence[NDArray[np.int64]], wait_s: float) -> Scored:
        """Every image in its place."""
        whole = predictions if self.world_size == 1 else self._gathered(predictions, shares, wait_s)
        with self._sending:
            self._referee.send(Predictions(shape=whole.shape), whole)
        received = self._referee.receive()
        if received is None or not isinstance(received.message, Scored):
            raise SystemExit("the referee ended the run")
        self._to_all(received.message)
        return received.message

    def _gathered(
        self, predictions: NDArray[np.int32], shares: Sequence[NDArray[np.int64]], wait_s: float
    ) -> NDArray[np.int32]:
        whole = np.empty((sum(map(len, shares)), predictions.shape[1]), np.int32)
        whole[shares[0]] = predictions
        for rank in range(1, self.world_size):
            received = self._hear(rank, Predictions, wait_s)
            shape = len(shares[rank]), predictions.shape[1]
            if received.predictions is None or received.predictions.shape != shape:
                raise RanksApart(f"rank {rank} evaluated with other options than rank 0")
            whole[shares[rank]] = received.predictions
        return whole

    def done(self, done: Done, wait_s: float) -> None:
        """When it returned everywhere; what was counted is the sum over the ranks."""
        others = [self._take(rank, Done, wait_s) for rank in range(1, self.world_size)]
        self.say(_sum([done, *others]))
        self._referee.receive()  # until the referee, which still wants to look at this process, closes the connection

    def failed(self, failure: Failed) -> None:
        """Unless another rank failed before."""
        if self.world_size == 1:
            self.say(failure)
        elif not self._told.wait(STILL_S):
            self._tell(0, failure)

    def _listen(self, rank: int) -> None:
        with suppress(ProtocolError):  # whoever is gone is missed by the supervisor
            while (received := self._followers[rank - 1].receive()) is not None:
                if isinstance(received.message, Failed):
                    self._tell(rank, received.message)
                else:
                    self._heard[rank - 1].put(received)

    def _tell(self, rank: int, failure: Failed) -> None:
        with self._sending:
            if not self._told.is_set():
                self._told.set()
                self._referee.send(failure.model_copy(update={"reason": f"rank {rank}: {failure.reason}"}))

    def _to_all(self, message: Job | Scored) -> None:
        for follower in self._followers:
            follower.send(message)

    def _take(self, rank: int, kind: type[M], wait_s: float | None) -> M:
        message = self._hear(rank, kind, wait_s).message
        assert isinstance(message, kind)
        return message

    def _hear(self, rank: int, kind: type[Message], wait_s: float | None) -> "Received[ToReferee]":
        try:
            received = self._heard[rank - 1].get(timeout=wait_s)
        except Empty:
            where = {Predictions: "an evaluation", Done: "the end of training"}[kind]
            raise RanksApart(f"rank 0 came to {where}, and rank {rank} did not within {wait_s:g} s") from None
        if not isinstance(received.message, kind):
            raise RanksApart(
                f"rank 0 awaits '{kind.__name__.lower()}' of rank {rank}, which is at '{received.message.type}'"
            )
        return received


class Follower(Link):
    """Any other rank.

    Args:
        rank: Which.
        world_size: How many there are.
        leader: The connection to rank 0.
    """

    def __init__(self, rank: int, world_size: int, leader: "Channel[ToTrainer]") -> None:
        super().__init__(rank, world_size)
        self._leader = leader

    def job(self) -> Job | None:
        """From rank 0."""
        received = self._leader.receive()
        return received.message if received is not None and isinstance(received.message, Job) else None

    def ready(self, threads: int) -> int:
        """Say so, and wait."""
        self._leader.send(Ready(threads=threads))
        received = self._leader.receive()
        if received is None or not isinstance(received.message, Go) or received.descriptor is None:
            raise SystemExit("the referee ended the run")
        return received.descriptor

    def say(self, message: ToReferee) -> None:
        """Rank 0 says the same."""

    def verdict(self, predictions: NDArray[np.int32], shares: Sequence[NDArray[np.int64]], wait_s: float) -> Scored:
        """Send this rank's; rank 0 waits."""
        self._leader.send(Predictions(shape=predictions.shape), predictions)
        received = self._leader.receive()
        if received is None or not isinstance(received.message, Scored):
            raise SystemExit("the referee ended the run")
        return received.message

    def done(self, done: Done, wait_s: float) -> None:
        """Rank 0 waits."""
        self._leader.send(done)
        self._leader.receive()  # until it is gone

    def failed(self, failure: Failed) -> None:
        """Tell it, and stay: a connection that breaks would have other ranks fail for that."""
        sleep(STILL_S)
        self._leader.send(failure)
        self._leader.receive()


def link(descriptors: Sequence[int]) -> Link:
    """What connects this process, by the variables that the supervisor set and the sockets that it passed on.

    Args:
        descriptors: The socket to the referee or to rank 0; of rank 0 also the one on which ranks meet, and those to
            the other ranks.
    """
    upward = Channel(socket.socket(fileno=descriptors[0]), TO_TRAINER, takes_descriptors=True)
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if rank:
        return Follower(rank, world_size, upward)
    followers = [
        Channel(socket.socket(fileno=descriptor), TO_REFEREE, max_payload_bytes=MAX_PAYLOAD_BYTES)
        for descriptor in descriptors[2:]
    ]
    return Leader(upward, followers)


def meet(device: "torch.device", meeting: int | None, wait_s: float) -> None:
    """Begin torch.distributed's default group of all ranks: NCCL on GPUs, gloo on the CPU.

    Args:
        device: Of this rank.
        meeting: On rank 0, the listening socket behind MASTER_PORT.
        wait_s: A collective in which a rank waits longer for another fails.
    """
    import torch
    import torch.distributed
    from torch._C._distributed_c10d import TCPStore

    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world_size,
        rank == 0,
        timeout=timedelta(seconds=MEET_S),
        master_listen_fd=meeting,
    )
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=wait_s),
        device_id=device if on_gpu else None,  # connects now: that is no part of training
    )


def _sum(dones: Sequence[Done]) -> Done:
    """Steps are rank 0's, as all take the same; memory and operations are everybody's."""
    peaks = [done.device_peak_bytes for done in dones if done.device_peak_bytes is not None]
    counts = [done.counted for done in dones if done.counted is not None]
    return dones[0].model_copy(
        update={
            "device_peak_bytes": sum(peaks) if peaks else None,
            "counted": together(counts) if counts else None,
            "audited": [window for done in dones for window in done.audited],
        }
    )
