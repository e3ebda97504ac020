"""What a person names becomes a side of a comparison, or one line that says why not."""

import re
from pathlib import Path
from typing import Any

import pytest
from records import make_official, make_record

from kit.analysis.decomposition import decompose
from kit.analysis.sides import side_named, side_of_records
from kit.errors import KitError
from kit.results.record import Device, Flops, OperatorFlops, Record, Time, UncountedOperator
from kit.results.store import write_record


def timed(to_target_s: float | None, **differently: Any) -> Record:
    outcome = {} if to_target_s is not None else {"outcome": "missed", "reason": "training ended at 80 %"}
    time = Time(to_target_s=to_target_s, total_s=9.0, setup_s=1.0, evaluation_s=0.1)
    return make_record(time=time, **outcome | differently)


def gpu(name: str, count: int = 1) -> Device:
    return Device(type="cuda", name=name, count=count, threads=None, uuid_hash=None, driver=None, power_limit_w=None)


def stored(folder: Path, *records: Record) -> Path:
    for number, record in enumerate(records):
        run = folder / f"run{number}"
        run.mkdir(parents=True)
        write_record(record, run)
    return folder


def test_a_record_its_folder_and_a_folder_of_runs_are_all_sides(tmp_path: Path) -> None:
    folder = stored(tmp_path / "entry", timed(2.0, seed=1), timed(4.0, seed=2), timed(3.0, seed=3))
    assert side_named(str(folder / "run0" / "record.json")).times_s == (2.0,)
    assert side_named(str(folder / "run1")).times_s == (4.0,)
    entry = side_named(str(folder))
    assert entry.time_s == 3.0
    assert entry.train_flops == 2e12
    assert len(entry.operators) == 3


def test_a_record_is_compared_with_another(tmp_path: Path) -> None:
    half = OperatorFlops(
        operator_class="gemm", dtype="float32", phase="training", calls=2, flops_per_call=5e11, bytes_per_call=1e6
    )
    evaluation = half.model_copy(update={"phase": "evaluation", "calls": 10**6})
    flops = Flops(method="replay", train_total=10**12, evaluation_total=10**9, operators=(half, evaluation))
    folder = stored(tmp_path, timed(4.0), timed(1.0, flops=flops))
    comparison = decompose(side_named(str(folder / "run0")), side_named(str(folder / "run1")))
    found = {factor.name: factor.ratio for factor in comparison.factors}
    assert found == pytest.approx(
        {"algorithm": 2, "scale": 1, "hardware": 1, "precision and mix": 1, "implementation": 2}
    )
    assert comparison.algorithmic_efficiency is not None
    assert comparison.algorithmic_efficiency.ratio == pytest.approx(2)


def test_a_gpu_of_the_spec_table_has_a_roof() -> None:
    old = side_of_records([timed(4.0, device=gpu("Tesla V100-SXM2-16GB"))], "old")
    new = side_of_records([timed(1.0, device=gpu("NVIDIA H100 80GB HBM3", 2))], "new")
    comparison = decompose(old, new)
    found = {factor.name: factor for factor in comparison.factors}
    assert found["hardware"].ratio > 2
    assert "spec" in found["hardware"].basis
    assert found["scale"].ratio == 2
    assert comparison.interaction_log == 0, "the same operators on both"
    assert comparison.a.attained is not None
    assert comparison.a.attained_of == "spec"


def test_a_record_is_compared_with_a_published_entry_of_the_same_target() -> None:
    track = make_record().track.model_copy(update={"name": "cifar10", "dataset": "cifar10", "target": 0.94})
    here = side_of_records([timed(4.0, track=track, device=gpu("Tesla V100-SXM2-16GB"))], "here")
    comparison = decompose(side_named("dawnbench:kakaobrain_custom-resnet9_1v100"), here)
    found = {factor.name: factor.ratio for factor in comparison.factors}
    assert found["hardware"] == 1
    assert found["algorithm × implementation"] == pytest.approx(57.046 / 4)
    assert any("clocks differ" in note for note in comparison.notes)


@pytest.mark.parametrize(
    ("flops", "reason"),
    [
        (Flops(method="pending"), "not counted"),
        (Flops(method="absent"), "not counted"),
        (
            Flops(method="replay", train_total=10, untrusted_because="the replay learned less"),
            "the replay learned less",
        ),
        (
            Flops(
                method="replay",
                train_total=10,
                uncounted=(UncountedOperator(operator="x", calls=1, bytes=1, time_share=0.5),),
            ),
            "50% of the time went to operators without a rule",
        ),
        (Flops(method="replay", train_total=0), "the count is 0"),
    ],
)
def test_operations_that_are_not_rated_are_unknown(flops: Flops, reason: str) -> None:
    uncounted = side_of_records([timed(4.0, flops=flops)], "uncounted")
    assert uncounted.flops is None
    comparison = decompose(uncounted, side_of_records([timed(1.0)], "counted"))
    assert comparison.factors[-1].name == "algorithm × implementation"
    assert comparison.no_efficiency_because is not None
    assert reason in comparison.no_efficiency_because


def test_an_organizers_runs_with_shuffled_labels_are_no_runs_of_the_entry() -> None:
    data = make_record().track.model_copy(update={"dataset_fingerprint": "0" * 64})
    runs = [timed(float(index + 2), official=make_official(index)) for index in range(3)]
    checks = [timed(None, track=data, official=make_official(index, split="control")) for index in range(3)]
    assert side_of_records([*checks, *runs], "mine").times_s == (2.0, 3.0, 4.0)


def test_a_run_that_missed_counts_in_an_entry_and_one_that_was_cancelled_does_not() -> None:
    runs = [timed(2.0), timed(3.0), timed(None), timed(None, outcome="cancelled")]
    side = side_of_records(runs, "entry")
    assert side.time_s == 3.0
    assert len(side.times_s) == 3
    assert side.train_flops is not None


OTHER_TRACK = make_record().track.model_copy(update={"version": 2})
OTHER_CODE = make_record().submission.model_copy(update={"source_sha256": "b" * 64})
OTHER_CONFIG = make_record().submission.model_copy(update={"config": {"lr": 0.2}})


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([timed(None)], "the run has no time to the target: missed, training ended at 80 %"),
        ([timed(None, outcome="cancelled", reason="ended")], "no time to the target: cancelled, ended"),
        ([timed(None), timed(None), timed(1.0)], "2 of 3 runs did not reach the target"),
        ([timed(0.0)], "expected times to the target above 0 s, got 0"),
        ([timed(1.0), timed(1.0, track=OTHER_TRACK)], "runs of 2 tracks: made version 1, made version 2"),
        ([timed(1.0), timed(1.0, submission=OTHER_CODE)], "runs of 2 submissions: made aaaaaaaa, made bbbbbbbb"),
        ([timed(1.0), timed(1.0, submission=OTHER_CONFIG)], "runs of 2 configs: lr=0.1, lr=0.2"),
        ([timed(1.0), timed(1.0, device=gpu("a card"))], "runs of 2 devices: 1 x a processor, 2 threads, 1 x a card"),
    ],
)
def test_runs_that_are_no_entry_are_refused_in_one_line(records: list[Record], expected: str) -> None:
    with pytest.raises(KitError, match=re.escape(expected)) as refused:
        side_of_records(records, "results")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["nowhere", "dawnbench:nobody", ""])
def test_what_is_nowhere_is_a_mistake(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KitError, match="there is no"):
        side_named(name)
