"""Records are written whole, read back as they were, and refused with a reason when they are not records."""

import contextlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kit.errors import KitError
from kit.results.record import Record
from kit.results.store import create_run_dir, read_record, write_record

EXAMPLE: dict[str, Any] = {
    "schema_version": 1,
    "id": "20261124T000000Z-digits-made-s0-abcdef",
    "started_at": "2026-11-24T00:00:00Z",
    "kit_version": "0.1.0",
    "git": {"commit": "0" * 40, "dirty": False},
    "track": {
        "name": "digits",
        "version": 1,
        "title": "Digits",
        "dataset": "digits",
        "dataset_fingerprint": "f" * 64,
        "metric": "top1",
        "target": 0.99,
        "direction": "max",
        "limits": {"setup_s": 300.0, "run_s": 300.0, "evaluations": 1000, "message_bytes": 67108864},
        "baseline": "baselines/digits_cnn",
    },
    "submission": {
        "name": "made",
        "authors": ["a test"],
        "date": "2026-11-24",
        "base": None,
        "source_sha256": "a" * 64,
        "config": {"lr": 0.1, "nested": {"deep": [1, 2]}},
    },
    "seed": 0,
    "loader": "dali",
    "outcome": "reached",
    "reason": None,
    "traceback": None,
    "time": {"to_target_s": 0.5, "total_s": 0.6, "setup_s": 2.0, "evaluation_s": 0.1},
    "evaluations": [{"elapsed_s": 0.5, "evaluation_s": 0.1, "value": 0.991, "reached": True}],
    "steps": {"optimizer_steps": 10, "loader_batches": 10, "evaluations": 1},
    "energy": {
        "device_j": None,
        "method": None,
        "update_period_s": None,
        "uncertainty_j": None,
        "unavailable_because": "no GPU",
    },
    "flops": {"method": "pending"},
    "memory": {"device_peak_bytes": None, "host_peak_bytes": 1000},
    "device": {
        "type": "cpu",
        "name": "a CPU",
        "count": 1,
        "threads": 2,
        "uuid_hash": None,
        "driver": None,
        "power_limit_w": None,
    },
    "software": {"python": "3.11.7", "torch": "2.15.0", "dali": None, "hydra": None, "cuda_driver": None},
    "isolation": {"mode": "process", "defences": ["clean_environment"]},
}


def example() -> Record:
    return Record.model_validate_json(json.dumps(EXAMPLE))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write_record(example(), tmp_path)
    assert read_record(path) == read_record(tmp_path) == example()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("time", "to_target_s"), -1.0),
        (("time", "to_target_s"), float("nan")),
        (("time", "total_s"), float("inf")),
        (("energy", "device_j"), float("nan")),
        (("energy", "joules"), 1.0),
        (("outcome",), "won"),
        (("schema_version",), 0),
        (("memory", "host_peak_bytes"), -1),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused(where: tuple[str, ...], value: Any) -> None:
    content = json.loads(json.dumps(EXAMPLE))
    inside = content
    for key in where[:-1]:
        inside = inside[key]
    inside[where[-1]] = value
    with pytest.raises(ValidationError):
        Record.model_validate(content)


def test_a_record_of_a_newer_kit_is_refused_with_that_reason(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(json.dumps(EXAMPLE | {"schema_version": 2, "new_field": 1}))
    with pytest.raises(KitError, match="schema 2 is newer"):
        read_record(tmp_path)


@settings(max_examples=300)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused_with_nothing_but_the_kits_error(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.json"
    path.write_bytes(data)
    with pytest.raises(KitError):
        read_record(path)


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_record_is_read_or_refused_and_nothing_else(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(json.dumps(EXAMPLE).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(KitError):
        assert isinstance(read_record(path), Record)


@pytest.mark.parametrize(
    "content", ["", "[" * 100_000, "null", "[]", '{"schema_version": "one"}', '{"schema_version": 1}']
)
def test_what_is_no_record_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(KitError, match=r"record\.json"):
        read_record(path)


def test_a_run_that_was_killed_says_so(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").touch()
    with pytest.raises(KitError, match="was killed"):
        read_record(tmp_path)


def test_a_write_that_fails_leaves_the_old_record_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(example(), tmp_path)

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_record(example().model_copy(update={"seed": 9}), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    assert read_record(tmp_path).seed == 0


def test_run_folders_sort_by_time_and_never_collide(tmp_path: Path) -> None:
    start = datetime(2026, 11, 24, 23, 59, 50, tzinfo=UTC)
    made = [
        create_run_dir(tmp_path, started_at=start + timedelta(seconds=8 * step), track="digits", submission="a", seed=0)
        for step in (0, 1, 2, 3)
    ]
    assert sorted(made) == made
    again = create_run_dir(tmp_path, started_at=start, track="digits", submission="a", seed=0)
    assert again not in made
