"""Frames between referee and trainer: what is sent arrives, and nothing that a stranger sends gets past `receive`."""

import fcntl
import itertools
import os
import socket
import struct
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any

import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kit.protocol import (
    HEAD,
    MAGIC,
    MAX_HEADER_BYTES,
    TO_REFEREE,
    TO_TRAINER,
    Channel,
    ConnectionLost,
    Counted,
    Done,
    Evaluating,
    Failed,
    Go,
    Job,
    Log,
    Message,
    OperatorCount,
    Predictions,
    ProtocolError,
    Ready,
    Received,
    Scored,
    Steps,
    ToReferee,
    ToTrainer,
    UncountedOperator,
)
from kit.track import DatasetSpec, Limits, Track

MAX_PAYLOAD = 1 << 16
AMPLE_NS = 20 * 10**9
SHORT_NS = 5 * 10**6


@dataclass
class Ends:
    """Both ends of a connection; whatever a test sends by `raw` arrives at `referee`."""

    raw: socket.socket
    referee_sock: socket.socket
    trainer: Channel[ToTrainer]
    referee: Channel[ToReferee]

    def receive(self) -> Received[ToReferee] | None:
        return self.referee.receive(monotonic_ns() + AMPLE_NS)


@contextmanager
def connection() -> Iterator[Ends]:
    left, right = socket.socketpair()
    with left, right:
        yield Ends(
            left,
            right,
            Channel(left, TO_TRAINER, takes_descriptors=True),
            Channel(right, TO_REFEREE, max_payload_bytes=MAX_PAYLOAD),
        )


def frame(header: bytes, payload: bytes = b"") -> bytes:
    return HEAD.pack(MAGIC, len(header), len(payload)) + header + payload


def arrive(data: bytes) -> list[Received[ToReferee]]:
    """Send bytes, close, and receive all there is."""
    with connection() as ends:
        ends.raw.sendall(data)
        ends.raw.shutdown(socket.SHUT_WR)
        messages = []
        while (received := ends.receive()) is not None:
            messages.append(received)
        return messages


counts = st.integers(0, 2**53 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(max_size=40)
words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=128)
names = st.from_regex(r"[a-z0-9][a-z0-9_]{0,20}", fullmatch=True)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
operator_counts = st.builds(
    OperatorCount,
    operator_class=words,
    dtype=words,
    phase=st.sampled_from(["training", "optimizer", "evaluation"]),
    backward=st.booleans(),
    calls=counts,
    flops=counts,
    bytes=counts,
    busy_s=st.none() | st.floats(0, 1e9),
)
uncounted = st.builds(UncountedOperator, operator=words, calls=counts, bytes=counts, busy_s=st.floats(0, 1e9))
steps = st.builds(Steps, optimizer_steps=counts, loader_batches=counts, evaluations=counts)
to_referee: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ready, threads=counts),
    st.builds(Evaluating),
    st.builds(
        Log,
        scalars=st.dictionaries(
            st.from_regex(r"[A-Za-z_][A-Za-z0-9_./-]{0,20}", fullmatch=True), st.none() | finite, max_size=5
        ),
    ),
    st.builds(
        Done,
        steps=steps,
        device_peak_bytes=st.none() | counts,
        counted=st.none()
        | st.builds(
            Counted, operators=st.lists(operator_counts, max_size=3), uncounted=st.lists(uncounted, max_size=3)
        ),
    ),
    st.builds(
        Failed, kind=st.sampled_from(["crashed", "out_of_memory", "invalid"]), reason=st.text(), traceback=st.text()
    ),
)
positive = st.floats(min_value=1e-9, max_value=1e9)
tracks = st.builds(
    Track,
    name=names,
    version=st.integers(1, 2**40),
    title=text,
    dataset=names,
    dataset_fingerprint=st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    metric=st.sampled_from(["top1", "top5"]),
    target=st.floats(min_value=1e-9, max_value=1),
    limits=st.builds(
        Limits,
        setup_s=positive,
        run_s=positive,
        evaluations=st.integers(1, 2**40),
        message_bytes=st.integers(1, 2**40),
    ),
    baseline=text,
)
datasets = st.builds(
    DatasetSpec,
    name=names,
    channels=st.integers(1, 2**40),
    height=st.integers(1, 2**40),
    width=st.integers(1, 2**40),
    classes=st.integers(2, 2**40),
    train_count=st.integers(1, 2**40),
    test_count=st.integers(1, 2**40),
    mean=st.lists(finite, max_size=4).map(tuple),
    std=st.lists(finite, max_size=4).map(tuple),
)
to_trainer: st.SearchStrategy[Message] = st.one_of(
    st.builds(Go),
    st.builds(Scored, value=finite, reached=st.booleans()),
    st.builds(
        Job,
        submission_dir=text,
        config=st.dictionaries(text, plain, max_size=4),
        track=tracks,
        dataset=datasets,
        device=text,
        seed=st.integers(0, 2**63),
        loader=st.sampled_from(["dali", "torch"]),
        counting=st.booleans(),
    ),
)


@st.composite
def prediction_arrays(draw: st.DrawFn) -> NDArray[np.int32]:
    shape = draw(st.tuples(st.integers(0, 20), st.integers(0, 5)))
    values = draw(
        st.lists(st.integers(-(2**31), 2**31 - 1), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    )
    return np.array(values, np.int32).reshape(shape)


# ---- what is sent arrives


@given(message=to_referee)
def test_what_the_trainer_sends_arrives_as_it_was(message: Message) -> None:
    with connection() as ends:
        ends.trainer.send(message)
        received = ends.receive()
    assert received is not None
    assert received.message == message
    assert received.predictions is None
    assert received.descriptor is None


@given(message=to_trainer)
def test_what_the_referee_sends_arrives_as_it_was(message: Message) -> None:
    with connection() as ends:
        ends.referee.send(message)
        received = ends.trainer.receive(monotonic_ns() + AMPLE_NS)
    assert received is not None
    assert received.message == message


@given(predictions=prediction_arrays())
def test_predictions_arrive_with_every_value_in_its_place(predictions: NDArray[np.int32]) -> None:
    with connection() as ends:
        ends.trainer.send(Predictions(shape=(predictions.shape[0], predictions.shape[1])), predictions)
        received = ends.receive()
    assert received is not None
    assert received.predictions is not None
    np.testing.assert_array_equal(received.predictions, predictions, strict=True)


def test_predictions_that_lie_elsewhere_in_memory_arrive_in_order() -> None:
    transposed = np.arange(12, dtype=np.int32).reshape(3, 4).T
    with connection() as ends:
        ends.trainer.send(Predictions(shape=(4, 3)), transposed)
        received = ends.receive()
    assert received is not None
    assert received.predictions is not None
    np.testing.assert_array_equal(received.predictions, transposed)


@given(messages=st.lists(to_referee, max_size=6))
def test_messages_keep_their_order_and_their_borders(messages: list[Message]) -> None:
    with connection() as ends:
        for message in messages:
            ends.trainer.send(message)
        ends.raw.shutdown(socket.SHUT_WR)
        arrived = []
        while (received := ends.receive()) is not None:
            arrived.append(received.message)
    assert arrived == messages


@given(message=to_referee, cuts=st.lists(st.integers(0, 200), max_size=4))
def test_a_frame_in_pieces_arrives_whole(message: Message, cuts: list[int]) -> None:
    data = frame(message.model_dump_json().encode())
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    with connection() as ends, ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(ends.receive)
        for start, stop in itertools.pairwise(borders):
            ends.raw.sendall(data[start:stop])
        received = receiving.result()
    assert received is not None
    assert received.message == message


def test_a_closed_connection_between_frames_is_the_end_and_no_error() -> None:
    with connection() as ends:
        ends.trainer.send(Evaluating())
        ends.trainer.close()
        assert ends.receive() is not None
        assert ends.receive() is None
        assert ends.receive() is None


# ---- what is not a message


def broken(header: dict[str, Any] | bytes, payload: bytes = b"") -> bytes:
    import json

    return frame(header if isinstance(header, bytes) else json.dumps(header).encode(), payload)


DONE = {
    "type": "done",
    "steps": {"optimizer_steps": 1, "loader_batches": 1, "evaluations": 1},
    "device_peak_bytes": None,
}
BROKEN = {
    "wrong magic": b"HTTP" + frame(b'{"type":"evaluating"}')[4:],
    "an older magic": b"KIT0" + frame(b'{"type":"evaluating"}')[4:],
    "a header of 4 GiB": HEAD.pack(MAGIC, 2**32 - 1, 0),
    "a header one byte too long": HEAD.pack(MAGIC, MAX_HEADER_BYTES + 1, 0),
    "a payload of 2**63 bytes": HEAD.pack(MAGIC, 2, 2**63) + b"{}",
    "a payload of 2**64 - 1 bytes": HEAD.pack(MAGIC, 2, 2**64 - 1) + b"{}",
    "a payload one byte too long": HEAD.pack(MAGIC, 2, MAX_PAYLOAD + 1) + b"{}",
    "no header": frame(b""),
    "no JSON": frame(b"evaluating"),
    "half a JSON": frame(b'{"type":"evaluating"'),
    "two JSONs": frame(b'{"type":"evaluating"}{"type":"evaluating"}'),
    "not UTF-8": frame(b'{"type":"\xff\xfe"}'),
    "half a surrogate pair": frame(b'{"type":"failed","kind":"crashed","reason":"\\ud800","traceback":""}'),
    "pickle": frame(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94."),
    "brackets 60000 deep": frame(b"[" * 60000),
    "brackets 60000 deep and closed": frame(b"[" * 60000 + b"]" * 60000),
    "objects 20000 deep": frame(b'{"a":' * 20000 + b"1" + b"}" * 20000),
    "brackets 60000 deep inside a message": frame(
        b'{"type":"log","scalars":{"a":' + b"[" * 60000 + b"]" * 60000 + b"}}"
    ),
    "an array": broken(b"[]"),
    "null": broken(b"null"),
    "no type": broken({"threads": 1}),
    "an unknown type": broken({"type": "shutdown"}),
    "a type that is no text": broken({"type": ["ready"]}),
    "a message for the other side": broken({"type": "go"}),
    "an unknown key": broken({"type": "evaluating", "at_ns": 0}),
    "an unknown key further down": broken(DONE | {"steps": {**DONE["steps"], "elapsed_s": 0}}),  # type: ignore[dict-item]
    "a missing key": broken({"type": "ready"}),
    "NaN": broken(b'{"type":"log","scalars":{"loss":NaN}}'),
    "infinity": broken(b'{"type":"log","scalars":{"loss":Infinity}}'),
    "minus infinity": broken(b'{"type":"log","scalars":{"loss":-Infinity}}'),
    "a number beyond all floats": broken(b'{"type":"log","scalars":{"loss":1e999}}'),
    "a number as text": broken({"type": "ready", "threads": "4"}),
    "a float for a count": broken({"type": "ready", "threads": 4.0}),
    "true for a count": broken({"type": "ready", "threads": True}),
    "a negative count": broken({"type": "ready", "threads": -1}),
    "a count of 2**53": broken({"type": "ready", "threads": 2**53}),
    "a count of 5000 digits": broken(b'{"type":"ready","threads":' + b"9" * 5000 + b"}"),
    "text for a scalar": broken({"type": "log", "scalars": {"loss": "low"}}),
    "a scalar named by markup": broken({"type": "log", "scalars": {"[red]loss": 1.0}}),
    "a scalar with a line break": broken({"type": "log", "scalars": {"loss\n": 1.0}}),
    "65 scalars": broken({"type": "log", "scalars": {f"s{i}": 1.0 for i in range(65)}}),
    "a reason of 64 KiB and one": broken(
        {"type": "failed", "kind": "crashed", "reason": "x" * ((64 << 10) + 1), "traceback": ""}
    ),
    "an unknown kind of failure": broken({"type": "failed", "kind": "reached", "reason": "", "traceback": ""}),
    "a negative shape": broken({"type": "predictions", "shape": [-1, 1]}),
    "two negative sides": broken({"type": "predictions", "shape": [-1, -1]}, b"\0" * 4),
    "a shape of one side": broken({"type": "predictions", "shape": [1]}, b"\0" * 4),
    "a shape of three sides": broken({"type": "predictions", "shape": [1, 1, 1]}, b"\0" * 4),
    "a shape that is no number": broken({"type": "predictions", "shape": ["1", 1]}, b"\0" * 4),
    "predictions without payload": broken({"type": "predictions", "shape": [2, 1]}),
    "a payload shorter than its shape": broken({"type": "predictions", "shape": [2, 1]}, b"\0" * 7),
    "a payload longer than its shape": broken({"type": "predictions", "shape": [2, 1]}, b"\0" * 9),
    "a shape whose size overflows": broken({"type": "predictions", "shape": [2**52, 2**52]}, b"\0" * 4),
    "a payload with a message that has none": broken({"type": "evaluating"}, b"\0" * 4),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_not_a_message_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        arrive(data)


def test_a_frame_that_announces_too_much_is_refused_before_anything_follows() -> None:
    with connection() as ends:
        ends.raw.sendall(HEAD.pack(MAGIC, 2**32 - 1, 2**64 - 1))
        with pytest.raises(ProtocolError, match="larger than allowed"):
            ends.receive()


@given(message=to_referee, data=st.data())
def test_a_frame_cut_short_is_a_protocol_error(message: Message, data: st.DataObject) -> None:
    whole = frame(message.model_dump_json().encode())
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(ConnectionLost):
        arrive(whole[:cut])


@pytest.mark.parametrize("payload_bytes", [0, 1, 7])
def test_predictions_cut_short_are_a_protocol_error(payload_bytes: int) -> None:
    whole = broken({"type": "predictions", "shape": [2, 1]}, b"\0" * 8)
    with pytest.raises(ConnectionLost):
        arrive(whole[: len(whole) - 8 + payload_bytes])


def only_the_errors_that_are_told(data: bytes) -> None:
    try:
        for received in arrive(data):
            assert isinstance(received.message, Message)
    except (ProtocolError, TimeoutError):
        pass


@given(st.binary(max_size=200))
def test_random_bytes_end_in_no_other_error(data: bytes) -> None:
    only_the_errors_that_are_told(data)


@given(st.binary(max_size=200), st.binary(max_size=64))
def test_random_bytes_in_a_right_frame_end_in_no_other_error(header: bytes, payload: bytes) -> None:
    only_the_errors_that_are_told(frame(header, payload))


@given(header_bytes=st.integers(0, 2**32 - 1), payload_bytes=st.integers(0, 2**64 - 1), rest=st.binary(max_size=60))
def test_random_lengths_end_in_no_other_error(header_bytes: int, payload_bytes: int, rest: bytes) -> None:
    only_the_errors_that_are_told(HEAD.pack(MAGIC, header_bytes, payload_bytes) + rest)


@given(
    message=to_referee, key=st.sampled_from(["type", "threads", "shape", "scalars", "steps", "counted"]), value=plain
)
def test_a_message_with_one_strange_value_ends_in_no_other_error(message: Message, key: str, value: Any) -> None:
    only_the_errors_that_are_told(broken(message.model_dump() | {key: value}))


@st.composite
def mutated_frames(draw: st.DrawFn) -> bytes:
    if draw(st.booleans()):
        data = bytearray(frame(draw(to_referee).model_dump_json().encode()))
    else:
        data = bytearray(broken({"type": "predictions", "shape": [3, 1]}, draw(st.binary(min_size=12, max_size=12))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["replace", "remove", "insert", "repeat"])):
            case "replace" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "remove":
                del data[at : at + draw(st.integers(1, 8))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "repeat":
                data += data[at:]
    return bytes(data)


@given(mutated_frames())
def test_a_mutated_frame_ends_in_no_other_error(data: bytes) -> None:
    only_the_errors_that_are_told(data)


@given(shape=st.tuples(counts, counts), payload=st.binary(max_size=64))
def test_no_shape_of_predictions_ends_in_another_error(shape: tuple[int, int], payload: bytes) -> None:
    only_the_errors_that_are_told(broken({"type": "predictions", "shape": shape}, payload))


@given(side=counts, first=st.booleans())
def test_an_empty_shape_is_a_message_or_a_protocol_error(side: int, first: bool) -> None:
    only_the_errors_that_are_told(broken({"type": "predictions", "shape": [0, side] if first else [side, 0]}))


@st.composite
def hostile_streams(draw: st.DrawFn) -> bytes:
    """Whole and broken messages, mutated and one after another; mutations are cheaper to draw than messages."""
    stream = bytearray()
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 9))
        if kind == 0:
            stream += draw(st.binary(max_size=60))
        elif kind == 1:
            stream += HEAD.pack(MAGIC, draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**64 - 1)))
        elif kind == 2:
            stream += frame(draw(to_referee).model_dump_json().encode(), draw(st.binary(max_size=8)))
        else:
            stream += draw(st.sampled_from(SMALL))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(stream)))
        stream[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(stream)


SMALL = [
    frame(b'{"type":"evaluating"}'),
    frame(b'{"type":"ready","threads":2}'),
    frame(b'{"type":"progress","optimizer_steps":4}'),
    frame(b'{"type":"log","scalars":{"loss":0.25,"accuracy":null}}'),
    frame(b'{"type":"failed","kind":"crashed","reason":"no","traceback":"line 1"}'),
    broken({"type": "predictions", "shape": [3, 1]}, b"\0" * 12),
    broken({"type": "predictions", "shape": [0, 5]}),
    broken(DONE),
    *(content for content in BROKEN.values() if len(content) < 300),
]


@pytest.mark.timeout(3600)
def test_no_stream_of_bytes_ends_in_another_error(fuzz_inputs: int) -> None:
    fuzz(only_the_errors_that_are_told, hostile_streams(), fuzz_inputs)


# ---- deadlines


def test_silence_ends_at_the_deadline() -> None:
    with connection() as ends:
        start = monotonic_ns()
        with pytest.raises(TimeoutError):
            ends.referee.receive(start + SHORT_NS)
        assert monotonic_ns() - start >= SHORT_NS


@pytest.mark.parametrize("sent", [1, 4, HEAD.size - 1, HEAD.size, HEAD.size + 1])
def test_a_frame_that_does_not_go_on_ends_at_the_deadline(sent: int) -> None:
    with connection() as ends:
        ends.raw.sendall(frame(b'{"type":"evaluating"}')[:sent])
        start = monotonic_ns()
        with pytest.raises(TimeoutError):
            ends.referee.receive(start + SHORT_NS)
        assert monotonic_ns() - start >= SHORT_NS


def test_a_payload_that_does_not_come_ends_at_the_deadline() -> None:
    with connection() as ends:
        ends.raw.sendall(broken({"type": "predictions", "shape": [2, 1]}, b"\0" * 8)[:-1])
        with pytest.raises(TimeoutError):
            ends.referee.receive(monotonic_ns() + SHORT_NS)


def test_a_deadline_that_has_passed_is_not_waited_for() -> None:
    with connection() as ends, pytest.raises(TimeoutError):
        ends.referee.receive(monotonic_ns() - 1)


def test_a_frame_once_begun_must_end_in_time_even_without_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.protocol.FRAME_S", SHORT_NS / 1e9)
    with connection() as ends:
        for deadline_ns in (None, monotonic_ns() + AMPLE_NS):
            ends.raw.sendall(MAGIC)
            with pytest.raises(ProtocolError, match="not complete"):
                ends.referee.receive(deadline_ns)


def test_bytes_that_trickle_do_not_move_the_deadline() -> None:
    with connection() as ends, ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(ends.referee.receive, monotonic_ns() + 10 * SHORT_NS)
        ends.raw.settimeout(AMPLE_NS / 1e9)
        head = HEAD.pack(MAGIC, MAX_HEADER_BYTES, 0)
        ends.raw.sendall(head)
        while not receiving.done():
            ends.raw.sendall(b" ")
            until_read(ends.referee_sock, receiving.done)
        with pytest.raises(TimeoutError):
            receiving.result()


def test_sending_to_one_who_does_not_read_ends_in_a_protocol_error() -> None:
    with connection() as ends:
        predictions = np.zeros((1 << 21, 1), np.int32)
        with pytest.raises(ProtocolError, match="read nothing"):
            ends.trainer.send(Predictions(shape=predictions.shape), predictions, timeout_s=0.02)


def test_sending_to_one_who_is_gone_is_a_lost_connection() -> None:
    with connection() as ends:
        ends.referee.close()
        with pytest.raises(ConnectionLost):
            ends.trainer.send(Evaluating())


def test_receiving_from_one_who_left_without_reading_is_a_lost_connection_or_the_end() -> None:
    with connection() as ends:
        ends.referee.send(Go())
        ends.trainer.close()
        with suppress(ConnectionLost):
            assert ends.receive() is None


# ---- the time of a message


def until_read(sock: socket.socket, stopped: Any = lambda: False) -> None:
    """Spin until everything that was sent to `sock` has been taken from it."""
    end = monotonic_ns() + AMPLE_NS
    while struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, b"\0" * 4))[0] and not stopped():
        assert monotonic_ns() < end, "nobody reads"


@pytest.mark.parametrize("held_back", [1, 8])
def test_a_message_is_as_late_as_its_last_byte(held_back: int) -> None:
    data = broken({"type": "predictions", "shape": [2, 1]}, b"\0" * 8)
    with connection() as ends, ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(ends.receive)
        ends.raw.sendall(data[:-held_back])
        until_read(ends.referee_sock)
        between = monotonic_ns()
        ends.raw.sendall(data[-held_back:])
        received = receiving.result()
        after = monotonic_ns()
    assert received is not None
    assert between <= received.at_ns <= after


def test_a_message_without_payload_is_as_late_as_its_last_byte() -> None:
    data = broken({"type": "evaluating"})
    with connection() as ends, ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(ends.receive)
        ends.raw.sendall(data[:-1])
        until_read(ends.referee_sock)
        between = monotonic_ns()
        ends.raw.sendall(data[-1:])
        received = receiving.result()
    assert received is not None
    assert received.at_ns >= between


# ---- descriptors


def test_a_descriptor_travels_with_go_and_opens_the_same_folder(tmp_path: os.PathLike[str]) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with connection() as ends:
            ends.referee.send(Go(), descriptor=folder)
            received = ends.trainer.receive(monotonic_ns() + AMPLE_NS)
            assert received is not None
            assert received.message == Go()
            assert received.descriptor is not None
            try:
                assert os.path.samestat(os.fstat(received.descriptor), os.fstat(folder))
                assert received.descriptor != folder
                assert not os.get_inheritable(received.descriptor)
            finally:
                os.close(received.descriptor)
            ends.referee.send(Scored(value=0.5, reached=False))
            following = ends.trainer.receive(monotonic_ns() + AMPLE_NS)
            assert following is not None
            assert following.descriptor is None
    finally:
        os.close(folder)


@pytest.mark.parametrize("count", [1, 3])
def test_descriptors_sent_to_the_referee_are_not_received(count: int) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, connection() as ends:
        socket.send_fds(ends.raw, [frame(b'{"type":"evaluating"}')], [writing] * count)
        os.close(writing)
        received = ends.receive()
        assert received is not None
        assert received.descriptor is None
        os.set_blocking(pipe.fileno(), False)
        assert pipe.read() == b"", "somebody holds the other end of the pipe"
