"""Waiting for jobs: it ends whatever SLURM says, and what is lost is made again as often as asked."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import KitError
from kit.slurm import fleet
from kit.slurm.fleet import Ended, Fleet, Settled, Submitted
from kit.slurm.queue import JobState
from kit.slurm.settings import SlurmSettings, read_settings

QUICK: dict[str, Any] = {
    "timeout_min": 60,
    **dict.fromkeys(["partition", "account", "qos", "constraint", "exclude", "nodelist"]),
    **dict.fromkeys(["gpus_per_node", "cpus_per_task", "mem_gb"]),
    "exclusive": False,
    "array_parallelism": 4,
    "additional_parameters": {},
    "setup": [],
    "wait": True,
    "retries": 1,
    "max_queued": 1000,
    "signal_delay_s": 60,
    "poll_s": 1e-6,
    "settle_s": 0,
    "silent_s": 60,
}


def settings(**differently: Any) -> SlurmSettings:
    return read_settings(QUICK | differently)


class Cluster:
    """A queue and the work in it, without SLURM: every attempt of a task ends as its script says."""

    def __init__(self, scripts: Sequence[Sequence[str]], *, at_most: int = 1000) -> None:
        self.scripts = scripts
        self.at_most = at_most
        self.attempts = Counter[int]()
        self.made = Counter[int]()
        self.batches: list[int] = []
        self.queue: dict[tuple[str, int], tuple[int, str]] = {}
        self.polls = 0

    def submit(self, tasks: Sequence[int]) -> Submitted:
        if len(self.queue) + len(tasks) > self.at_most:
            raise KitError("SLURM does not take the runs: QOSMaxSubmitJobPerUserLimit")
        name = f"kit-{len(self.batches)}"
        self.batches.append(len(tasks))
        for place, task in enumerate(tasks):
            script = self.scripts[task]
            self.queue[name, place] = task, script[min(self.attempts[task], len(script) - 1)]
            self.attempts[task] += 1
        return Submitted(name, [f"{len(self.batches)}_{place}" for place in range(len(tasks))])

    def jobs_named(self, names: set[str]) -> dict[tuple[str, int], JobState]:
        """At every question some jobs end; SLURM forgets some of these at once."""
        self.polls += 1
        found = {}
        for place, (_, end) in list(self.queue.items()):
            if end.startswith("later"):
                self.queue[place] = self.queue[place][0], end.removeprefix("later ")
            if end.startswith("forgotten"):
                continue
            state = "RUNNING" if end.startswith("later") else "COMPLETED" if end == "made" else "FAILED"
            found[place] = JobState(place[0], f"1_{place[1]}", state, "node", "None")
        return found

    def settle(self, task: int, ended: Ended, *, again: bool) -> Settled:
        _, end = self.queue[ended.place]
        if end in ("made", "forgotten made"):
            self.made[task] += 1
        elif not ended.late:
            return "unseen"
        del self.queue[ended.place]
        return "made" if end in ("made", "forgotten made") else "lost"


def run(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, said: list[str] | None = None, **how: Any) -> list[int]:
    monkeypatch.setattr(fleet, "jobs_named", cluster.jobs_named)
    monkeypatch.setattr(fleet, "max_array_size", lambda: 1001)
    hear = (said if said is not None else []).append
    return Fleet(settings(**how), cluster, hear, hear, "call again").make(range(len(cluster.scripts)))


ENDS = st.lists(
    st.sampled_from(["made", "lost", "forgotten made", "forgotten lost", "later made", "later lost"]), min_size=1
)


@given(
    scripts=st.lists(ENDS, min_size=1, max_size=12),
    retries=st.integers(0, 3),
    max_queued=st.integers(1, 5),
    at_most=st.integers(5, 8),
)
def test_every_run_is_made_once_or_tried_as_often_as_asked(
    scripts: list[list[str]], retries: int, max_queued: int, at_most: int
) -> None:
    cluster = Cluster(scripts, at_most=at_most)
    with pytest.MonkeyPatch.context() as monkeypatch:
        lost = run(cluster, monkeypatch, retries=retries, max_queued=max_queued)
    for task in range(len(scripts)):
        if task in lost:
            assert cluster.attempts[task] == retries + 1
            assert cluster.made[task] == 0
        else:
            assert cluster.made[task] == 1
            assert cluster.attempts[task] <= retries + 1
    assert not cluster.queue
    assert max(cluster.batches) <= max_queued


def test_many_runs_are_submitted_as_few_arrays_and_asked_for_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([["made"]] * 5000)
    assert run(cluster, monkeypatch) == []
    assert len(cluster.batches) == 5
    assert cluster.polls <= 2 * len(cluster.batches)


def test_a_queue_that_takes_no_more_gets_the_rest_when_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, said = Cluster([["later made"]] * 9, at_most=4), list[str]()
    assert run(cluster, monkeypatch, said, max_queued=3) == []
    assert cluster.made.total() == 9


def test_what_slurm_does_not_take_at_all_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KitError, match="does not take the runs"):
        run(Cluster([["made"]], at_most=0), monkeypatch)


def test_a_slurm_that_is_silent_for_long_is_given_up_and_what_goes_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, said = Cluster([["made"]]), list[str]()
    monkeypatch.setattr(Cluster, "jobs_named", lambda self, names: None)
    with pytest.raises(KitError, match="has not answered for"):
        run(cluster, monkeypatch, said, silent_s=1e-4)
    assert said[-1] == "the jobs go on; call again, and scancel --name=kit-0 ends them"


def test_a_silence_says_nothing_about_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, answers = Cluster([["later made"]]), iter([False, True, False, True, True, True])
    honest = cluster.jobs_named
    monkeypatch.setattr(cluster, "jobs_named", lambda names: honest(names) if next(answers) else None)
    assert run(cluster, monkeypatch) == []
    assert (cluster.attempts[0], cluster.made[0]) == (1, 1)


def test_without_waiting_all_is_submitted_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, said = Cluster([["later later later made"]] * 3), list[str]()
    assert run(cluster, monkeypatch, said, wait=False) == []
    assert said[-1] == "3 runs are with SLURM; call again, and scancel --name=kit-0 ends them"
    assert len(cluster.queue) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"timeout_min": 0}, "hydra.launcher.timeout_min: "),
        ({"retries": -1}, "hydra.launcher.retries: "),
        ({"gpus_per_node": "many"}, "hydra.launcher.gpus_per_node: "),
        ({"nodes": 2}, "hydra.launcher.nodes: "),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(KitError, match=said):
        settings(**wrong)


def test_jobs_are_never_started_a_second_time_by_slurm_and_are_told_when_their_time_is_over() -> None:
    asked = settings(signal_delay_s=90, exclusive=True, additional_parameters={"reservation": "race"}).sbatch()
    assert asked["slurm_additional_parameters"] == {"no-requeue": True, "reservation": "race"}
    assert asked["slurm_signal_delay_s"] == 90
    assert asked["slurm_exclusive"] is True
    assert "slurm_partition" not in asked
