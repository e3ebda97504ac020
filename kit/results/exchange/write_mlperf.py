"""A record as an MLPerf Training log, for the ResNet-50 benchmark: what `mlperf_logging.compliance_checker` reads.

What the referee measured (moments, accuracies, seed, images) is written from the record alone. What MLPerf asks for
beyond that is the submitter's word: a mapping `mlperf` among the submission's hyperparameters, each key as in the log.
What is missing there is asked for, never filled in.

The newest rules with ResNet-50 are those of round 4.0 (ruleset 4.0.0 of mlperf-logging 4.1.68).
"""

import json
from datetime import timedelta
from typing import Any, Literal

from kit.errors import KitError
from kit.results.exchange.steps import is_batch_size, optimizer_steps_at
from kit.results.imported import shortened
from kit.results.record import Record

RULESET = "4.0.0"
BENCHMARK = "resnet"
RACED = ("imagenet", "top1", 0.759)
IMAGES = 1_281_167
TEST_IMAGES = 50_000
STATED = "mlperf"
"""The hyperparameter that holds what the submitter states."""
ALWAYS = (
    "submission_benchmark",
    "submission_division",
    "submission_status",
    "cache_clear",
    "global_batch_size",
    "gradient_accumulation_steps",
    "opt_name",
)
"""Keys that every log needs. `cache_clear` says that caches were emptied before the run, `submission_benchmark` that
the network is MLPerf's ResNet-50."""
OPTIMIZER: dict[str, tuple[str, ...]] = {
    "sgd": (
        "sgd_opt_base_learning_rate",
        "sgd_opt_end_learning_rate",
        "sgd_opt_learning_rate_decay_poly_power",
        "sgd_opt_learning_rate_decay_steps",
        "sgd_opt_weight_decay",
        "sgd_opt_momentum",
        "model_bn_span",
        "opt_learning_rate_warmup_epochs",
    ),
    "lars": (
        "lars_opt_base_learning_rate",
        "lars_opt_end_learning_rate",
        "lars_opt_learning_rate_decay_poly_power",
        "lars_opt_learning_rate_decay_steps",
        "lars_epsilon",
        "lars_opt_learning_rate_warmup_epochs",
        "lars_opt_momentum",
        "lars_opt_weight_decay",
    ),
}
MAY_BE_STATED = ("submission_org", "submission_platform")
"""Else the authors, and the devices."""
EventType = Literal["POINT_IN_TIME", "INTERVAL_START", "INTERVAL_END"]


def mlperf_log(record: Record) -> str:
    """The log of a run; of one that missed the target it ends as aborted.

    Raises:
        KitError: The run is not for MLPerf's target, was never timed, or lacks what the submitter has to state.
    """
    track, config = record.track, record.submission.config
    if (track.dataset, track.metric, track.target) != RACED:
        raise KitError(
            f"record {record.id}: MLPerf's ResNet-50 races to top1 of 75.9 % on imagenet (track imagenet_mlperf); this "
            f"run to {track.metric} of {track.target:.1%} on {track.dataset}"
        )
    end_s = record.time.to_target_s if record.outcome == "reached" else record.time.total_s
    if end_s is None or record.time.setup_s is None or record.outcome in ("partial", "cancelled"):
        raise KitError(f"record {record.id}: no whole run: {record.outcome}, {record.reason or 'no reason given'}")
    stated = _stated(record, config.get(STATED))
    log = _Log(record)
    for key, value in (
        ("submission_benchmark", stated.pop("submission_benchmark")),
        ("submission_org", stated.pop("submission_org", ", ".join(record.submission.authors))),
        ("submission_division", stated.pop("submission_division")),
        ("submission_status", stated.pop("submission_status")),
        ("submission_platform", stated.pop("submission_platform", f"{record.device.count}x{record.device.name}")),
        ("cache_clear", stated.pop("cache_clear")),
    ):
        log.add(-record.time.setup_s, key, value)
    log.add(-record.time.setup_s, "init_start", None, "INTERVAL_START")
    log.add(0, "seed", record.seed)
    for key, value in stated.items():
        log.add(0, key, value)
    log.add(0, "train_samples", IMAGES)
    log.add(0, "eval_samples", TEST_IMAGES)
    log.add(0, "init_stop", None, "INTERVAL_END")
    log.add(0, "run_start", None, "INTERVAL_START")
    _write_blocks(log, record, stated["global_batch_size"], end_s)
    status = "success" if record.outcome == "reached" else "aborted"
    log.add(end_s, "run_stop", None, "INTERVAL_END", status=status)
    return str(log)


def _stated(record: Record, given: Any) -> dict[str, Any]:
    """What the submitter states, complete."""
    where = f"record {record.id}: config.{STATED}"
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise KitError(f"{where}: expected a mapping of MLPerf's keys, got {type(given).__name__}")
    optimizer = given.get("opt_name")
    if optimizer is not None and optimizer not in tuple(OPTIMIZER):  # it may be a list, which is in no mapping
        raise KitError(f"{where}.opt_name: expected {' or '.join(OPTIMIZER)}, got {shortened(repr(optimizer))}")
    needed = (*ALWAYS, *OPTIMIZER.get(optimizer or "", ()))
    if missing := [key for key in needed if given.get(key) is None]:
        raise KitError(
            f"{where}: an MLPerf log needs what no referee can see; state it as hyperparameters of the submission: "
            f"{', '.join(missing)}"
        )
    if strange := sorted(set(given) - {*needed, *MAY_BE_STATED}):
        raise KitError(f"{where}.{strange[0]}: not a key that is stated; these are: {', '.join(needed)}")
    if (benchmark := given["submission_benchmark"]) != BENCHMARK:
        raise KitError(f"{where}.submission_benchmark: expected {BENCHMARK!r}, got {shortened(repr(benchmark))}")
    if given["cache_clear"] is not True:
        raise KitError(
            f"{where}.cache_clear: MLPerf takes runs that begin with empty caches; say true where that is so"
        )
    batch_size = given["global_batch_size"]
    if not is_batch_size(batch_size):
        raise KitError(
            f"{where}.global_batch_size: expected images per optimizer step, got {shortened(repr(batch_size))}"
        )
    return {key: given[key] for key in (*needed, *MAY_BE_STATED) if key in given}


def _write_blocks(log: "_Log", record: Record, batch_size: int, end_s: float) -> None:
    """Training between evaluations as blocks, evaluations beside them; epochs from optimizer steps."""
    begun_s, begun_epoch = 0.0, 0.0
    for evaluation in record.evaluations:
        if evaluation.elapsed_s > end_s:
            break
        steps = optimizer_steps_at(record, evaluation.elapsed_s)
        if steps is None:
            raise KitError(f"record {record.id}: it does not say how many optimizer steps there were: no epochs")
        epoch = max(round(steps * batch_size / IMAGES, 4), begun_epoch)
        judging_s = max(begun_s, evaluation.elapsed_s - evaluation.evaluation_s)
        if epoch > begun_epoch:
            block = {"first_epoch_num": begun_epoch, "epoch_count": round(epoch - begun_epoch, 4)}
            log.add(begun_s, "block_start", None, "INTERVAL_START", **block)
            log.add(judging_s, "block_stop", None, "INTERVAL_END", **block)
        log.add(judging_s, "eval_start", None, "INTERVAL_START", epoch_num=epoch)
        log.add(evaluation.elapsed_s, "eval_accuracy", evaluation.value, epoch_num=epoch)
        log.add(evaluation.elapsed_s, "eval_stop", None, "INTERVAL_END", epoch_num=epoch)
        begun_s, begun_epoch = evaluation.elapsed_s, epoch


class _Log:
    """Lines in the making. MLPerf's wall clock is the run's start by the wall clock plus durations of the referee's."""

    def __init__(self, record: Record) -> None:
        assert record.time.setup_s is not None
        try:
            self._go = record.started_at + timedelta(seconds=record.time.setup_s)
        except OverflowError:
            raise KitError(f"record {record.id}: a set-up of {record.time.setup_s:g} s ends after all time") from None
        self._where = {"file": f"record {record.id}", "lineno": 0}
        self._lines: list[str] = []

    def add(self, elapsed_s: float, key: str, value: Any, event_type: EventType = "POINT_IN_TIME", **more: Any) -> None:
        """Write one event.

        Args:
            elapsed_s: After `go`.
            key: Of the event.
            value: Of the event.
            event_type: A point, or an end of an interval.
            more: What belongs to it: an epoch, how the run ended.
        """
        event = {
            "namespace": "",
            "time_ms": round(self._go.timestamp() * 1000 + elapsed_s * 1000),
            "event_type": event_type,
            "key": key,
            "value": value,
            "metadata": self._where | more,
        }
        self._lines.append(f":::MLLOG {json.dumps(event, allow_nan=False)}\n")

    def __str__(self) -> str:
        return "".join(self._lines)
