"""The messages between referee and trainer: the only thing that both sides import.

A frame is a fixed head (magic, header length, payload length; little endian), a JSON header and, for predictions
alone, one raw int32 array. The referee trusts nothing in a frame: lengths are checked before memory is taken, the
header must be exactly one of the messages below, and no byte of it is ever unpickled or evaluated. A message's time is
the moment its **last** byte was read, so sending the head early gains nothing.
"""

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic_ns
from typing import Annotated, Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from kit.track import DatasetSpec, Track

HEAD = struct.Struct("<4sIQ")
MAGIC = b"KIT1"
MAX_HEADER_BYTES = 1 << 20
FRAME_S = 30.0
"""A frame that has begun must be complete within this time."""
PREDICTIONS_DTYPE = np.dtype("<i4")

Phase = Literal["training", "optimizer", "evaluation"]
FailureKind = Literal["crashed", "out_of_memory", "invalid"]
Scalar = Annotated[float, Field(allow_inf_nan=False)] | None
ScalarName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_./-]*$", max_length=64)]
Word = Annotated[str, Field(max_length=128, pattern=r"^[ -~]*$")]
"""An operator, a class of them or a dtype, in plain characters."""
Text = Annotated[str, Field(max_length=64 << 10)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Operations = Annotated[int, Field(ge=0, lt=2**100)]
"""An ImageNet run takes 10^18."""


M = TypeVar("M")


class ProtocolError(Exception):
    """The other side sent something that is not a message, or not in time."""


class ConnectionLost(ProtocolError):  # noqa: N818 - an event more than an error
    """The other side is gone."""


class Message(BaseModel):
    """Base of all messages: exact keys, exact types, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# ---- referee to trainer


class Window(Message):
    """A stretch of a run, in ticks: what `Steps` counts, all together."""

    first: Count
    ticks: Annotated[int, Field(ge=1, lt=2**53)]


class Job(Message):
    """What to run. It holds no path to data: there is none before `Go`."""

    type: Literal["job"] = "job"
    submission_dir: str
    config: dict[str, Any]
    track: Track
    dataset: DatasetSpec
    device: str
    seed: int
    loader: Literal["dali", "torch"]
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Training ends after so many optimizer steps."""
    wait_s: Annotated[float, Field(gt=0)] = 60.0
    """So long one rank waits for another."""
    counting: bool
    """A replay: count operations, compile nothing."""
    sampling_seed: Count | None = None
    """Count steps by what they are seen to do, with recounts drawn from this; None counts every step."""
    audit: Annotated[list[Window], Field(max_length=100)] = []
    """Profile these windows; where steps would be sampled, count in these alone."""


class Go(Message):
    """Start training. A read-only descriptor of the data's public folder travels with it."""

    type: Literal["go"] = "go"


class Scored(Message):
    """The referee's answer to predictions."""

    type: Literal["scored"] = "scored"
    value: float
    reached: bool


# ---- trainer to referee


class Ready(Message):
    """Setup is done."""

    type: Literal["ready"] = "ready"
    threads: Count


class Evaluating(Message):
    """An evaluation begins; its predictions follow."""

    type: Literal["evaluating"] = "evaluating"


class Predictions(Message):
    """Class indices, best first, of every test image in order; the payload is int32 of this shape."""

    type: Literal["predictions"] = "predictions"
    shape: tuple[Count, Count]


class Log(Message):
    """Scalars for people: the display, the event file, wandb. `null` stands for a number that is not finite."""

    type: Literal["log"] = "log"
    scalars: Annotated[dict[ScalarName, Scalar], Field(max_length=64)]


class Progress(Message):
    """So many optimizer steps are done: 1, 2, 4, 8 and so on, once each. The time of its arrival says how fast."""

    type: Literal["progress"] = "progress"
    optimizer_steps: Count


class Steps(Message):
    """What training did, counted by the trainer; a replay must repeat it."""

    optimizer_steps: Count
    loader_batches: Count
    evaluations: Count


class OperatorCount(Message):
    """Calls of one operator class in one dtype, phase and direction, with their operations and bytes in total.

    One row holds calls of like size: their operations lie in one octave each, from a power of two to the next, and so
    do their bytes.
    """

    operator_class: Word
    dtype: Word
    phase: Phase
    backward: bool = False
    """Of a kind that only backward passes call; a product is a product in either pass."""
    calls: Count
    flops: Operations
    recomputed_flops: Operations
    """Of `flops`: what repeats work of a forward pass."""
    bytes: Count
    busy_s: Annotated[float, Field(ge=0, lt=1e12)] | None = None
    """Inside the operators, as the counter saw it; None where launches return before the work is done."""


class UncountedOperator(Message):
    """An operator that computes but has no rule."""

    operator: Word
    calls: Count
    bytes: Count
    busy_s: Annotated[float, Field(ge=0, lt=1e12)]


class DeclaredOperator(Message):
    """An operator that is counted by a rule of the submission's own."""

    operator: Word
    calls: Count
    flops: Operations


class Sampling(Message):
    """How many steps were counted where they were told apart by what they are seen to do."""

    steps: Count
    signatures: Count
    counted: Count
    recounted: Count
    mismatches: Count
    estimated: Count


class Counted(Message):
    """The arithmetic of a replay."""

    operators: Annotated[list[OperatorCount], Field(max_length=3000)]
    uncounted: Annotated[list[UncountedOperator], Field(max_length=1000)]
    declared: Annotated[list[DeclaredOperator], Field(max_length=1000)] = []
    sampling: Sampling | None = None
    """None where every step was counted."""


class AuditedWindow(Message):
    """What the counter and the profiler saw in one window, operations by operator class."""

    first: Count
    ticks: Count
    counted: Annotated[dict[Word, Operations], Field(max_length=32)]
    profiled: Annotated[dict[Word, Operations], Field(max_length=32)]
    unread: Annotated[list[Word], Field(max_length=32)]
    """Classes with operators whose shapes the profiler did not keep; left out of both."""
    elsewhere_flops: Operations
    """Of the profiled ones, on other threads than that of `train` and its backward passes."""
    elsewhere_calls: Count
    busy_s: Annotated[float, Field(ge=0, lt=1e12)]
    """Inside operators of all threads."""
    with_rule_s: Annotated[float, Field(ge=0, lt=1e12)]
    uncounted: Annotated[list[UncountedOperator], Field(max_length=100)]


class Done(Message):
    """Training returned."""

    type: Literal["done"] = "done"
    steps: Steps
    device_peak_bytes: Count | None
    counted: Counted | None = None
    audited: Annotated[list[AuditedWindow], Field(max_length=100)] = []


class Failed(Message):
    """The submission raised."""

    type: Literal["failed"] = "failed"
    kind: FailureKind
    reason: Text
    traceback: Text


ToTrainer = Job | Go | Scored
ToReferee = Ready | Evaluating | Predictions | Log | Progress | Done | Failed
TO_TRAINER: TypeAdapter[ToTrainer] = TypeAdapter(Annotated[ToTrainer, Field(discriminator="type")])
TO_REFEREE: TypeAdapter[ToReferee] = TypeAdapter(Annotated[ToReferee, Field(discriminator="type")])


@dataclass(frozen=True)
class Received(Generic[M]):
    """A message as it arrived."""

    message: M
    at_ns: int
    """CLOCK_MONOTONIC when the last byte had been read."""
    predictions: NDArray[np.int32] | None = None
    descriptor: int | None = None


class Channel(Generic[M]):
    """One end of the socket. `M` is what this end receives.

    Args:
        sock: A connected stream socket; the channel owns it.
        messages: What may be received.
        max_payload_bytes: A larger payload is refused before it is read.
        takes_descriptors: Only the trainer does; at the referee's end the kernel drops descriptors.
    """

    def __init__(
        self,
        sock: socket.socket,
        messages: TypeAdapter[M],
        *,
        max_payload_bytes: int = 0,
        takes_descriptors: bool = False,
    ) -> None:
        self._sock = sock
        self._messages = messages
        self._max_payload_bytes = max_payload_bytes
        self._takes_descriptors = takes_descriptors
        self._descriptors: list[int] = []

    def send(
        self,
        message: Message,
        predictions: NDArray[np.int32] | None = None,
        *,
        descriptor: int | None = None,
        timeout_s: float = FRAME_S,
    ) -> None:
        """Send one frame.

        Raises:
            ProtocolError: The other side is gone, or did not read in time.
        """
        header = message.model_dump_json().encode()
        payload = b"" if predictions is None else predictions.astype(PREDICTIONS_DTYPE, order="C").tobytes()
        frame = HEAD.pack(MAGIC, len(header), len(payload)) + header + payload
        self._sock.settimeout(timeout_s)
        try:
            if descriptor is not None:
                sent = socket.send_fds(self._sock, [frame], [descriptor])
                frame = frame[sent:]
            self._sock.sendall(frame)
        except TimeoutError:
            raise ProtocolError(f"the other side read nothing for {timeout_s:g} s") from None
        except OSError as error:
            raise ConnectionLost(f"the connection is gone ({error.strerror})") from error

    def receive(self, deadline_ns: int | None = None) -> Received[M] | None:
        """Wait for one message.

        Args:
            deadline_ns: On CLOCK_MONOTONIC; `None` waits for ever.

        Returns:
            The message, or `None` when the other side closed the connection between two frames.

        Raises:
            TimeoutError: No frame was complete before the deadline.
            ProtocolError: What came is not a message.
        """
        if not self._fill(first := bytearray(1), deadline_ns):
            return None
        frame_deadline_ns = monotonic_ns() + int(FRAME_S * 1e9)
        dawdling = deadline_ns is None or frame_deadline_ns < deadline_ns
        if deadline_ns is not None:
            frame_deadline_ns = min(frame_deadline_ns, deadline_ns)

        def read(size: int) -> bytearray:
            try:
                if size and not self._fill(data := bytearray(size), frame_deadline_ns):
                    raise ConnectionLost("the connection ended inside a message")
            except TimeoutError:
                if dawdling:
                    raise ProtocolError(f"a message was not complete after {FRAME_S:g} s") from None
                raise
            return data if size else bytearray()

        magic, header_bytes, payload_bytes = HEAD.unpack(first + read(HEAD.size - 1))
        if magic != MAGIC:
            raise ProtocolError("a frame begins with the wrong bytes")
        if header_bytes > MAX_HEADER_BYTES or payload_bytes > self._max_payload_bytes:
            raise ProtocolError(f"a message of {header_bytes + payload_bytes:,} bytes is larger than allowed")
        try:
            message = self._messages.validate_json(read(header_bytes))
        except ValidationError as error:
            raise ProtocolError(f"not a message: {first_problem(error)}") from None
        expected = (
            PREDICTIONS_DTYPE.itemsize * int(message.shape[0]) * int(message.shape[1])
            if isinstance(message, Predictions)
            else 0
        )
        if payload_bytes != expected:
            raise ProtocolError(f"a payload of {payload_bytes:,} bytes where {expected:,} were announced")
        payload = read(payload_bytes)
        at_ns = monotonic_ns()
        predictions = None
        if isinstance(message, Predictions):
            predictions = np.frombuffer(payload, PREDICTIONS_DTYPE).reshape(message.shape)
        descriptor = self._descriptors.pop() if self._descriptors else None
        return Received(message, at_ns, predictions, descriptor)

    def something_came(self) -> bool:
        """Whether there is anything of a message to receive."""
        self._sock.settimeout(0)
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:  # nothing, or the connection is gone
            return False

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _fill(self, buffer: bytearray, deadline_ns: int | None) -> bool:
        """Read until `buffer` is full; False when the connection ended before its first byte."""
        view = memoryview(buffer)
        read: Callable[[memoryview], int] = (
            self._read_with_descriptors if self._takes_descriptors else self._sock.recv_into
        )
        done = 0
        while done < len(view):
            if deadline_ns is None:
                self._sock.settimeout(None)
            elif (left_ns := deadline_ns - monotonic_ns()) > 0:
                self._sock.settimeout(left_ns / 1e9)
            else:
                raise TimeoutError
            try:
                count = read(view[done:])
            except TimeoutError:
                raise
            except OSError as error:
                raise ConnectionLost(f"the connection broke ({error.strerror})") from error
            if count == 0:
                if done == 0:
                    return False
                raise ConnectionLost("the connection ended inside a message")
            done += count
        return True

    def _read_with_descriptors(self, view: memoryview) -> int:
        data, descriptors, _, _ = socket.recv_fds(self._sock, len(view), 1)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors.extend(descriptors)
        view[: len(data)] = data
        return len(data)


def first_problem(error: ValidationError) -> str:
    """The first thing that a validation complains of, in one line."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]


def printable(text: str) -> str:
    """What an untrusted process said, without what a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
