"""Records on disk: whole or not at all, and whatever lies there is read or named."""

import json
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import make_official, make_record

from kit.errors import KitError
from kit.results.record import SCHEMA_VERSION, Record
from kit.results.store import create_run_dir, read_record, snapshot_source, write_record

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
WHOLE = make_record().model_dump_json(indent=2).encode()

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def create(results: Path, started_at: datetime = NOON) -> Path:
    return create_run_dir(results, started_at=started_at, track="made", submission="made", seed=1)


# ---- writing


def test_what_is_written_is_read_by_folder_and_by_file(tmp_path: Path) -> None:
    record = make_record()
    path = write_record(record, tmp_path)
    assert read_record(tmp_path) == read_record(path) == record


def test_a_record_that_is_written_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    write_record(make_record(seed=1), tmp_path)
    path = write_record(make_record(seed=2), tmp_path)
    assert read_record(tmp_path).seed == 2
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["os.replace", "os.fsync", "os.chmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "killed"])
def test_a_write_that_fails_leaves_the_old_record_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    path = write_record(make_record(seed=1), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(failing, fail)
        with pytest.raises(type(error)):
            write_record(make_record(seed=2), tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert read_record(tmp_path).seed == 1


def test_until_the_last_moment_the_old_record_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    replace = os.replace

    def look(source: str, target: Path) -> None:
        seen.append(read_record(tmp_path).seed)
        assert Record.model_validate_json(Path(source).read_bytes()).seed == 2
        replace(source, target)

    write_record(make_record(seed=1), tmp_path)
    monkeypatch.setattr("os.replace", look)
    write_record(make_record(seed=2), tmp_path)
    assert seen == [1]


# ---- ids


@given(
    first=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.timezones()),  # noqa: DTZ001
    later_s=st.integers(1, 10**9),
    offset_h=st.integers(-12, 12),
)
def test_ids_sort_by_time_wherever_they_were_made(first: datetime, later_s: int, offset_h: int) -> None:
    from datetime import timezone

    second = (first.astimezone(UTC) + timedelta(seconds=later_s)).astimezone(timezone(timedelta(hours=offset_h)))
    with tempfile.TemporaryDirectory() as results:
        assert create(Path(results), first).name < create(Path(results), second).name


def test_ids_of_the_same_second_are_different(tmp_path: Path) -> None:
    assert len({create(tmp_path).name for _ in range(50)}) == 50
    assert len(list(tmp_path.iterdir())) == 50


def test_an_id_names_time_track_submission_and_seed(tmp_path: Path) -> None:
    assert create(tmp_path / "new" / "results").name.startswith("20261124T120000Z-made-made-s1-")


def test_results_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match=f"{tmp_path}/file/results"):
        create(tmp_path / "file" / "results")


# ---- reading what is not a record


def test_a_run_that_was_killed_is_said_to_be(tmp_path: Path) -> None:
    run_dir = create(tmp_path)
    (run_dir / "events.jsonl").write_text('{"type": "started"}\n')
    with pytest.raises(KitError, match=r"record\.json: there is no record here .*still going, or was killed"):
        read_record(run_dir)


def test_a_folder_without_record_is_named_and_nobody_is_said_to_be_killed(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="there is no record here") as caught:
        read_record(tmp_path)
    assert "killed" not in str(caught.value)


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 99, 10**30])
def test_a_newer_record_is_said_to_be_newer(tmp_path: Path, version: int) -> None:
    content = json.loads(WHOLE) | {"schema_version": version, "what_comes_later": {}}
    (tmp_path / "record.json").write_text(json.dumps(content))
    with pytest.raises(KitError, match=f"schema {version} is newer.*update the kit"):
        read_record(tmp_path)


NOT_RECORDS = {
    "empty": b"",
    "half": WHOLE[: len(WHOLE) // 2],
    "all but the end": WHOLE[:-1],
    "doubled": WHOLE * 2,
    "zeros": b"\0" * 4096,
    "no JSON": b"record",
    "not UTF-8": b'{"schema_version": 1, "id": "\xff"}',
    "UTF-16": WHOLE.decode().encode("utf-16"),
    "brackets 60000 deep": b"[" * 60000 + b"]" * 60000,
    "brackets 60000 deep inside": b'{"schema_version": 1, "id": ' + b"[" * 60000 + b"]" * 60000 + b"}",
    "objects 500 deep inside": WHOLE.replace(b'"lr": 0.1', b'"lr": ' + b'{"a":' * 500 + b"1" + b"}" * 500),
    "null": b"null",
    "a number": b"1",
    "a text": b'"schema_version"',
    "a list": b"[1]",
    "an empty object": b"{}",
    "a version alone": b'{"schema_version": 1}',
    "no version": WHOLE.replace(b'"schema_version": 1,', b""),
    "an older version": WHOLE.replace(b'"schema_version": 1', b'"schema_version": 0'),
    "a version that is text": WHOLE.replace(b'"schema_version": 1', b'"schema_version": "2"'),
    "a version that is no number": WHOLE.replace(b'"schema_version": 1', b'"schema_version": NaN'),
    "a version of 5000 digits": WHOLE.replace(b'"schema_version": 1', b'"schema_version": ' + b"9" * 5000),
    "NaN": WHOLE.replace(b'"value": 0.5', b'"value": NaN'),
    "infinity": WHOLE.replace(b'"value": 0.5', b'"value": 1e999'),
    "an unknown key": WHOLE.replace(b'"seed": 1', b'"seed": 1, "colour": "red"'),
    "an unknown key further down": WHOLE.replace(b'"lr": 0.1', b'"lr": 0.1}, "colour": {"a": 1'),
    "an unknown outcome": WHOLE.replace(b'"reached",', b'"won",'),
    "half a surrogate pair": WHOLE.replace(b'"Ada"', b'"\\ud800"'),
}


@pytest.mark.parametrize("content", NOT_RECORDS.values(), ids=NOT_RECORDS.keys())
def test_what_is_not_a_record_is_named(tmp_path: Path, content: bytes) -> None:
    assert content != WHOLE
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(KitError) as caught:
        read_record(tmp_path)
    assert str(tmp_path / "record.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_records_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "record.json").mkdir()
    with pytest.raises(KitError, match=r"record\.json"):
        read_record(tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "record.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(KitError, match="larger than"):
        read_record(tmp_path)


def read_or_named(folder: Path, content: bytes) -> None:
    """Nothing but a record or a KitError comes of it, and the error names the file."""
    (folder / "record.json").write_bytes(content)
    said = f"{folder / 'record.json'}"
    try:
        assert isinstance(read_record(folder), Record)
    except KitError as error:
        said = str(error)
    assert str(folder / "record.json") in said


@given(content=st.binary(max_size=200))
@in_one_folder
def test_random_bytes_are_named(tmp_path: Path, content: bytes) -> None:
    read_or_named(tmp_path, content)


@given(start=st.integers(0, len(WHOLE)), length=st.integers(0, 20), put=st.binary(max_size=8))
@in_one_folder
def test_a_record_with_strange_bytes_inside_is_read_or_named(
    tmp_path: Path, start: int, length: int, put: bytes
) -> None:
    read_or_named(tmp_path, WHOLE[:start] + put + WHOLE[start + length :])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data(), value=values)
@in_one_folder
def test_a_record_with_one_strange_value_is_read_or_named(tmp_path: Path, data: st.DataObject, value: Any) -> None:
    content = json.loads(WHOLE)
    inside: Any = content
    key = data.draw(st.sampled_from(sorted(inside)))
    while isinstance(inside[key], dict) and inside[key] and data.draw(st.booleans()):
        inside = inside[key]
        key = data.draw(st.sampled_from(sorted(inside)))
    inside[key] = value
    read_or_named(tmp_path, json.dumps(content).encode())


@given(value=values)
@in_one_folder
def test_any_other_json_is_named(tmp_path: Path, value: Any) -> None:
    (tmp_path / "record.json").write_text(json.dumps(value))
    with pytest.raises(KitError):
        read_record(tmp_path)


OFFICIAL = make_record(official=make_official()).model_dump_json().encode()
WORDS = [
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b'""',
    b"[]",
    b"{}",
    b'"reached"',
    b'"a":',
    b"[" * 600,
    b"9" * 5000,
    b"\xff",
    b"\\ud800",
]


@st.composite
def hostile_records(draw: st.DrawFn) -> bytes:
    """A record with pieces cut out, doubled and replaced."""
    content = bytearray(draw(st.sampled_from([WHOLE, OFFICIAL])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        until = at + draw(st.integers(0, 30))
        match draw(st.sampled_from(["bytes", "word", "cut", "double"])):
            case "bytes":
                content[at:until] = draw(st.binary(max_size=8))
            case "word":
                content[at:until] = draw(st.sampled_from(WORDS))
            case "cut":
                del content[at:]
            case "double":
                content[at:at] = content[at:until]
    return bytes(content)


@pytest.mark.timeout(3600)
def test_no_content_of_a_record_file_ends_in_another_error(tmp_path: Path, fuzz_inputs: int) -> None:
    def read(content: bytes) -> None:
        read_or_named(tmp_path, content)

    fuzz(read, hostile_records() | st.binary(max_size=100), fuzz_inputs)


# ---- the source that ran


def test_the_source_is_copied_without_caches_and_hidden_files(tmp_path: Path, submission: Callable[..., Path]) -> None:
    source = submission("def train(run, state): ...\n")
    for name in ("parts/model.py", "__pycache__/a.pyc", ".git/config"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("x")
    copied = snapshot_source(source, tmp_path)
    found = {path.relative_to(copied).as_posix() for path in copied.rglob("*") if path.is_file()}
    assert found == {"submission.py", "submission.yaml", "parts/model.py"}
