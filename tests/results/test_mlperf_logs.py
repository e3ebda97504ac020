"""MLPerf logs: what MLPerf's own checker says of those that the kit writes, and what is read from those of others."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from records import make_record
from support import ROOT

from kit.errors import KitError
from kit.results.exchange import read_mlperf
from kit.results.exchange.read_mlperf import import_mlperf
from kit.results.exchange.write_mlperf import RULESET, mlperf_log
from kit.results.record import Evaluation, Progress, Record, Steps, Time

SGD: dict[str, Any] = yaml.safe_load(
    (ROOT / "docs/exchange.md").read_text().partition("```yaml\n")[2].partition("```")[0]
)["config"]["mlperf"]
"""As the documentation has it."""
LARS = {key: value for key, value in SGD.items() if not key.startswith(("sgd_", "model_", "opt_"))} | {
    "opt_name": "lars",
    "lars_opt_base_learning_rate": 10.5,
    "lars_opt_end_learning_rate": 0.0001,
    "lars_opt_learning_rate_decay_poly_power": 2,
    "lars_opt_learning_rate_decay_steps": 14_130,
    "lars_epsilon": 0.0,
    "lars_opt_learning_rate_warmup_epochs": 2,
    "lars_opt_momentum": 0.9,
    "lars_opt_weight_decay": 0.0001,
}
STEPS = 13_738  # 35 epochs of 3264 images


def make_run(stated: dict[str, Any] | None, **differently: Any) -> Record:
    """A run of 35 epochs to MLPerf's target, evaluated at 32 and 35."""
    raced = {"name": "imagenet_mlperf", "dataset": "imagenet", "metric": "top1", "target": 0.759}
    config: dict[str, Any] = {"width": 64} if stated is None else {"width": 64, "mlperf": stated}
    content: dict[str, Any] = {
        "track": make_record().track.model_copy(update=raced),
        "submission": make_record().submission.model_copy(update={"config": config}),
        "time": Time(to_target_s=800.25, total_s=800.25, setup_s=30.5, evaluation_s=6),
        "evaluations": (
            Evaluation(elapsed_s=730.125, evaluation_s=3, value=0.7502, reached=False),
            Evaluation(elapsed_s=800.25, evaluation_s=3, value=0.7593, reached=True),
        ),
        "progress": (Progress(optimizer_steps=1, elapsed_s=2.0), Progress(optimizer_steps=8192, elapsed_s=480.0)),
        "steps": Steps(optimizer_steps=STEPS, loader_batches=STEPS, evaluations=2),
    }
    return make_record(**content | differently)


def complaints(log: str, folder: Path) -> str:
    """What MLPerf's compliance checker says beside its progress; empty where it is content."""
    path = folder / "result_0.txt"
    path.write_text(log)
    checker = "mlperf_logging.compliance_checker"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", checker, "--usage", "training", "--ruleset", RULESET, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    said = f"{done.stdout}{done.stderr}"
    assert f"Running compliance on file: {path}" in said
    assert "training_3.1.0/closed_resnet_" in said, "the rules of the optimizer were read as well"
    complained = "\n".join(text for text in said.splitlines() if not text.startswith(("** Logging", "INFO -")))
    assert (done.returncode == 0) == ("INFO - SUCCESS" in said) == (complained == ""), said
    return complained


@pytest.mark.parametrize("stated", [SGD, LARS], ids=["sgd", "lars"])
def test_the_checker_of_the_closed_division_reads_a_log_without_complaint(
    stated: dict[str, Any], tmp_path: Path
) -> None:
    assert complaints(mlperf_log(make_run(stated)), tmp_path) == ""


def test_that_checker_does_complain_of_a_log_with_something_missing_or_wrong(tmp_path: Path) -> None:
    log = mlperf_log(make_run(SGD))
    without = "".join(line for line in log.splitlines(keepends=True) if '"model_bn_span"' not in line)
    assert "model_bn_span" in complaints(without, tmp_path)
    assert "0.7590" in complaints(log.replace("0.7593", "0.7583"), tmp_path)


def test_a_log_read_back_is_the_run(tmp_path: Path) -> None:
    path = tmp_path / "result_0.txt"
    path.write_text(mlperf_log(make_run(SGD)))
    found = import_mlperf([path])
    assert (found.refused, found.notes) == ((), ())
    (run,) = found.rows
    assert (run.benchmark, run.submitter, run.platform, run.status) == ("resnet", "Ada", "1xa processor", "onprem")
    assert (run.outcome, run.time_to_target_s, run.accuracy, run.evaluations) == ("success", 800.25, 0.7593, 2)
    assert (run.seed, run.global_batch_size, run.train_samples, run.eval_samples) == (1, 3264, 1_281_167, 50_000)
    assert run.epoch == pytest.approx(STEPS * 3264 / 1_281_167, abs=1e-4)
    assert run.samples == pytest.approx(STEPS * 3264, rel=1e-4)
    assert (run.mean_power_w, run.energy_j) == (None, None)


def test_a_run_that_missed_ends_as_aborted_and_has_no_time_to_the_target(tmp_path: Path) -> None:
    path = tmp_path / "result_0.txt"
    missed = make_run(
        SGD,
        outcome="missed",
        reason="fell short",
        time=Time(to_target_s=None, total_s=900, setup_s=30.5, evaluation_s=6),
    )
    path.write_text(mlperf_log(missed))
    (run,) = import_mlperf([path]).rows
    assert (run.outcome, run.time_to_target_s, run.run_s) == ("aborted", None, 900)


def test_every_key_that_nobody_stated_is_asked_for_at_once() -> None:
    with pytest.raises(KitError, match="state it as hyperparameters of the submission") as refused:
        mlperf_log(make_run({key: value for key, value in SGD.items() if key not in ("cache_clear", "model_bn_span")}))
    assert str(refused.value).endswith("cache_clear, model_bn_span")
    with pytest.raises(KitError, match="submission_division, submission_status, cache_clear"):
        mlperf_log(make_run(None))


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (SGD | {"opt_name": "adam"}, "opt_name: expected sgd or lars, got 'adam'"),
        (SGD | {"opt_name": ["sgd"]}, r"opt_name: expected sgd or lars, got \['sgd'\]"),
        (SGD | {"global_batch_size": 10**400}, "global_batch_size: expected images per optimizer step, got 10"),
        (SGD | {"eval_accuracy": 0.8}, "eval_accuracy: not a key that is stated"),
        (SGD | {"seed": 5}, "seed: not a key that is stated"),
        (SGD | {"cache_clear": False}, "cache_clear: MLPerf takes runs that begin with empty caches"),
        (SGD | {"global_batch_size": 0}, "global_batch_size: expected images per optimizer step, got 0"),
        (SGD | {"submission_benchmark": "bert"}, "submission_benchmark: expected 'resnet'"),
        ([1], "expected a mapping of MLPerf's keys, got list"),
    ],
)
def test_what_is_stated_wrongly_is_refused(stated: dict[str, Any], told: str) -> None:
    with pytest.raises(KitError, match=told):
        mlperf_log(make_run(stated))


def test_only_a_run_to_mlperfs_target_has_a_log() -> None:
    with pytest.raises(KitError, match=r"races to top1 of 75.9 % on imagenet .*; this run to top1 of 90.0% on made"):
        mlperf_log(make_record())
    with pytest.raises(KitError, match=r"a set-up of 1e\+12 s ends after all time"):
        mlperf_log(make_run(SGD, time=Time(to_target_s=1, total_s=1, setup_s=1e12, evaluation_s=0)))
    with pytest.raises(KitError, match="no whole run: cancelled, by Ada"):
        mlperf_log(make_run(SGD, outcome="cancelled", reason="by Ada"))


@given(
    moments=st.lists(st.integers(1, 10**6), min_size=1, max_size=9, unique=True).map(sorted),
    values=st.lists(st.floats(0, 0.7), min_size=9, max_size=9),
)
def test_moments_never_go_back_in_a_log(moments: list[int], values: list[float]) -> None:
    evaluations = tuple(
        Evaluation(elapsed_s=at / 8, evaluation_s=at / 16, value=value, reached=False)
        for at, value in zip(moments, values, strict=False)
    )
    end_s = moments[-1] / 8
    run = make_run(
        SGD,
        evaluations=evaluations,
        outcome="missed",
        time=Time(to_target_s=None, total_s=end_s, setup_s=1, evaluation_s=0),
    )
    events = [json.loads(line.removeprefix(":::MLLOG ")) for line in mlperf_log(run).splitlines()]
    times = [event["time_ms"] for event in events]
    assert times == sorted(times)
    epochs = [event["metadata"]["epoch_num"] for event in events if event["key"] == "eval_accuracy"]
    assert epochs == sorted(epochs)
    assert len(epochs) == len(evaluations)


# ---- logs of others


def line(time_ms: float, key: str, value: Any = None, **metadata: Any) -> str:
    event = {"namespace": "", "time_ms": time_ms, "event_type": "POINT_IN_TIME", "key": key, "value": value}
    return f":::MLLOG {json.dumps(event | {'metadata': metadata})}\n"


def log(*, without: Iterable[str] = (), more: str = "", status: str = "success") -> str:
    lines = {
        "submission_benchmark": line(1_000, "submission_benchmark", "bert"),
        "submission_org": line(1_000, "submission_org", "Org"),
        "train_samples": line(1_500, "train_samples", 1000),
        "run_start": line(2_000, "run_start"),
        "eval_accuracy": line(50_000, "eval_accuracy", 0.71, epoch_num=3)
        + line(61_000, "eval_accuracy", 0.72, epoch_num=4),
        "run_stop": line(62_500, "run_stop", None, status=status),
    }
    return "".join(text for key, text in lines.items() if key not in without) + more


def write(folder: Path, text: str | bytes, name: str = "result_0.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_events_are_found_among_what_else_a_run_printed(tmp_path: Path) -> None:
    noise = "".join(f"0: {text}\nloss = 0.5 \xe9\n\n" for text in log().splitlines())
    (run,) = import_mlperf([write(tmp_path, noise.encode("latin-1"))]).rows
    assert (run.benchmark, run.submitter, run.time_to_target_s) == ("bert", "Org", 60.5)
    assert (run.accuracy, run.epoch, run.samples, run.evaluations) == (0.72, 4, 4000, 2)
    assert (run.platform, run.seed, run.global_batch_size) == (None, None, None)


def test_samples_are_taken_as_logged_where_they_are(tmp_path: Path) -> None:
    more = line(62_000, "eval_accuracy", 0.73, samples_count=3_500)
    (run,) = import_mlperf([write(tmp_path, log(more=more))]).rows
    assert (run.accuracy, run.samples, run.epoch) == (0.73, 3_500, None)


def test_a_folder_stands_for_its_result_files(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, log(), f"org/resnet/result_{number}.txt")
    write(tmp_path, "not one", "org/README.txt")
    assert [run.file for run in import_mlperf([tmp_path]).rows] == [
        f"{tmp_path}/org/resnet/result_{number}.txt" for number in range(3)
    ]


def test_a_line_that_cannot_be_read_is_told_and_the_rest_counts(tmp_path: Path) -> None:
    bad = [
        ":::MLLOG {broken\n",
        ':::MLLOG {"key": "seed"}\n',
        ":::MLLOG [1]\n",
        ":::MLLOG " + "[" * 100_000 + "\n",
        line(float("nan"), "seed", 3),
    ]
    found = import_mlperf([write(tmp_path, "".join(bad) + log())])
    assert [run.time_to_target_s for run in found.rows] == [60.5]
    assert [remark.line for remark in found.refused] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no submission_benchmark: not the log of a whole run"),
        (log(without=["run_stop"]), "there is no run_stop"),
        (log(more=line(3_000, "run_start")), "run_start is there more than once"),
        (log(without=["run_start"], more=line(70_000, "run_start")), "run_stop is not after run_start"),
        (log(without=["run_stop"], more=line(62_500, "run_stop")), "run_stop does not say how the run ended"),
        (":::MLPv0.5.0 resnet 1541710515.0 (file.py:3) run_start\n", "the format of MLPerf 0.5 and 0.6"),
        (b"\x00" * 10_000, "there is no submission_benchmark"),
    ],
)
def test_a_file_that_is_no_log_of_a_whole_run_is_told(tmp_path: Path, text: str | bytes, told: str) -> None:
    found = import_mlperf([write(tmp_path, text), write(tmp_path, log(), "result_1.txt")])
    assert len(found.rows) == 1
    assert told in str(found.refused[0])


def test_an_aborted_run_has_no_time_to_the_target(tmp_path: Path) -> None:
    (run,) = import_mlperf([write(tmp_path, log(status="aborted"))]).rows
    assert (run.outcome, run.time_to_target_s, run.run_s) == ("aborted", None, 60.5)


def test_a_key_that_is_there_twice_counts_once_and_is_noted(tmp_path: Path) -> None:
    found = import_mlperf([write(tmp_path, log(more=line(1_000, "submission_org", "Other")))])
    assert found.rows[0].submitter == "Org"
    assert ["submission_org is there more than once" in note.what for note in found.notes] == [True]


def test_evaluations_without_a_number_or_after_the_end_do_not_count(tmp_path: Path) -> None:
    more = line(61_500, "eval_accuracy", float("nan")) + line(99_000, "eval_accuracy", 0.99)
    found = import_mlperf([write(tmp_path, log(more=more))])
    assert (found.rows[0].accuracy, found.rows[0].evaluations) == (0.72, 2)
    assert "2 evaluations without a number, or after run_stop" in found.notes[0].what


def power(*readings: tuple[int, float], more: str = "") -> str:
    begin = line(readings[0][0], "power_measurement_start")
    return begin + "".join(line(time_ms, "power_reading", watts) for time_ms, watts in readings) + more


def test_power_is_summed_over_nodes_and_switches_and_scaled_to_the_run(tmp_path: Path) -> None:
    path = write(tmp_path, log())
    write(tmp_path, power((0, 5), (10_000, 6_000), (30_000, 7_500)), "power/result_0/node_0.txt")
    stop = line(20_000, "power_measurement_stop") + line(21_000, "conversion_eff", 0.9)
    write(tmp_path, power((0, 5), (10_000, 1_000), more=stop), "power/result_0/node_1.txt")
    write(tmp_path, line(0, "interconnect_power_est", 200.0), "power/result_0/sw_0.txt")
    found = import_mlperf([path])
    assert found.refused == ()
    (run,) = found.rows
    assert run.mean_power_w == pytest.approx(7_000 + 0.9 * 500 + 200)
    assert run.energy_j == pytest.approx(7_650 * 60.5)


def test_without_all_of_its_logs_a_run_has_no_power(tmp_path: Path) -> None:
    path = write(tmp_path, log())
    write(tmp_path, power((0, 5), (10_000, 6_000)), "power/result_0/node_0.txt")
    write(tmp_path, line(0, "power_reading", 5_000), "power/result_0/node_1.txt")
    found = import_mlperf([path])
    assert (found.rows[0].mean_power_w, found.rows[0].energy_j) == (None, None)
    assert "node_1.txt: no power: there is no power_measurement_start" in str(found.refused[0])


def test_very_long_lines_and_very_large_files_are_read_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "x" * (3 << 20) + "\n" + log())
    assert [run.time_to_target_s for run in import_mlperf([path]).rows] == [60.5]
    monkeypatch.setattr(read_mlperf, "MAX_LOG_BYTES", 1 << 20)
    (refused,) = import_mlperf([path]).refused
    assert "larger than" in refused.what


def test_nothing_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="there is nothing here"):
        import_mlperf([tmp_path / "none"])
    with pytest.raises(KitError, match=r"no MLPerf result files here; expected result_\*.txt"):
        import_mlperf([tmp_path])
