"""Several ranks in one run: one torch.distributed job, whose first rank speaks to the referee."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from support import Finished, why_no_sandbox

from kit.data.augment import LoaderOptions, batch_bounds
from kit.data.prepared import Prepared
from kit.referee.audit import audit
from kit.referee.run import Plan, run
from kit.results.events import Event, Logged
from kit.results.record import IsolationMode, Record
from kit.submission import manifest

ISOLATIONS = [
    "process",
    pytest.param("sandbox", marks=pytest.mark.skipif((because := why_no_sandbox()) is not None, reason=because or "")),
]
SOON_S = 10
"""In which a run with a rank that died or was stopped is over."""
BEGIN = """
import os, signal, subprocess, time
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel


def setup(run):
    model = nn.Linear(100, 10)
    return DistributedDataParallel(model) if run.world_size > 1 else model

"""
LEARNS = (
    BEGIN
    + """
def train(run, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    seen = torch.zeros(200, dtype=torch.int64)
    mean, std = torch.tensor(run._spec.mean), torch.tensor(run._spec.std)
    known = ((run.arrays("test")[0] / 255 - mean) / std).flatten(1)

    def predict(images):
        for image in images.flatten(1):
            seen[(known - image).square().sum(1).argmin()] += 1
        return model(images.flatten(1))

    for epoch in range(100):
        for images, labels in run.loader("train", 40 // run.world_size):
            optimizer.zero_grad()
            F.cross_entropy(model(images.flatten(1)), labels).backward()
            optimizer.step()
        seen.zero_()
        verdict = run.evaluate(predict, batch_size=30)
        if run.world_size > 1:
            dist.all_reduce(seen)
        run.log(least=seen.min(), most=seen.max(), threads=torch.get_num_threads(), rank=run.rank)
        if verdict.reached:
            return

"""
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return tiny.prepare_tiny(tmp_path_factory.mktemp("data"))


class Listening:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


class Race:
    """Runs of one test."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self.folder = folder
        self.prepared = prepared
        self.heard = Listening()
        self.path = folder

    def plan(self, source: str, *, ranks: int = 2, isolation: IsolationMode = "process", **limits: Any) -> Plan:
        track = tiny.make_track(limits={"setup_s": 600, "run_s": 600} | limits)
        folder = tiny.write_submission(self.folder / f"made{len(list(self.folder.iterdir()))}", source)
        content = manifest.load(folder)
        return Plan(
            track=track,
            submission=manifest.describe(folder, content, content.config),
            submission_dir=folder,
            seed=1,
            device="cpu",
            loader="torch",
            isolation=isolation,
            count_flops=False,
            max_steps=None,
            allow_busy_device=False,
            count_fully_below_s=600,
            results_dir=self.folder / "results",
            cost=None,
            ranks=ranks,
        )

    def __call__(self, plan: Plan) -> Record:
        record, self.path = run(plan, self.prepared, [self.heard])
        return record


@pytest.fixture
def race(tmp_path: Path, prepared: Prepared) -> Iterator[Race]:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield Race(tmp_path, prepared)
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert left == []


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_two_ranks_reach_the_target_together(race: Race, isolation: IsolationMode) -> None:
    record = race(race.plan(LEARNS, isolation=isolation))
    assert record.outcome == "reached", (race.path.with_name("output.log")).read_text()
    assert (record.device.count, record.device.ranks) == (1, 2)
    logged = [event.scalars for event in race.heard.events if isinstance(event, Logged)]
    assert logged
    for scalars in logged:
        assert scalars["rank"] == 0
        assert scalars["least"] == scalars["most"] == 1, "each test image is predicted once"
    assert record.device.threads == 2 * (logged[0]["threads"] or 0)


def test_operations_are_those_of_one_rank_with_the_same_global_batch(race: Race) -> None:
    totals = {}
    for ranks in (1, 2):
        plan = race.plan(LEARNS.replace("range(100)", "range(3)").replace("lr=0.1", "lr=1e-6"), ranks=ranks)
        record = race(dataclasses.replace(plan, count_flops=True))
        assert record.flops.trusted, record.flops.untrusted_because
        assert record.flops.uncounted == ()
        totals[ranks] = record.flops.train_total, record.flops.evaluation_total
    assert totals[2] == pytest.approx(totals[1], rel=1e-3)
    audited, _ = audit(race.path, race.prepared, lambda event: None, windows=2)
    assert audited.agrees, audited.disagrees_because
    assert len(audited.windows) == 4, "both ranks are looked at"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (signal.SIGKILL, "rank 1 was killed by signal 9 before training returned"),
        (signal.SIGSTOP, "rank 1 was stopped, and did not go on within 5 s"),
    ],
)
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_rank_that_dies_or_is_stopped_ends_the_run(
    race: Race, isolation: IsolationMode, how: signal.Signals, reason: str
) -> None:
    steps = """
def train(run, model):
    run.log(begun=1)
    for _ in range(10**9):
        dist.all_reduce(torch.ones(1))
"""
    hit_at: list[float] = []

    class Hitting(Listening):
        def on_event(self, event: Event) -> None:
            if isinstance(event, Logged) and not hit_at:
                (rank,) = [child for child in psutil.Process().children(recursive=True) if is_rank(child, 1)]
                hit_at.append(time.monotonic())
                rank.send_signal(how)

    race.heard = Hitting()
    record = race(race.plan(BEGIN + steps, isolation=isolation))
    assert record.outcome == "crashed"
    assert record.reason == reason
    assert time.monotonic() - hit_at[0] < SOON_S


def is_rank(process: psutil.Process, rank: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return "kit.trainer" in process.cmdline() and process.environ().get("RANK") == str(rank)
    return False


def test_a_rank_that_goes_on_in_time_is_left_alone(race: Race) -> None:
    stopping = """
def train(run, model):
    if run.rank == 1:
        subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {os.getpid()}"])
        os.kill(os.getpid(), signal.SIGSTOP)
    dist.barrier()
"""
    assert race(race.plan(BEGIN + stopping, rank_stopped_s=30)).outcome == "missed"


@pytest.mark.parametrize(
    ("train", "outcome", "reason"),
    [
        (
            "if run.rank == 1: raise ValueError('not today')\n    dist.barrier()",
            "crashed",
            "rank 1: ValueError: not today",
        ),
        (
            "if run.rank == 0: raise ValueError('not today')\n    dist.barrier()",
            "crashed",
            "rank 0: ValueError: not today",
        ),
        (
            "if run.rank == 1: os._exit(0)\n    dist.barrier()",
            "crashed",
            "rank 1 exited with status 0 before training returned",
        ),
        (
            "if run.rank == 0: os._exit(3)\n    dist.barrier()",
            "crashed",
            "rank 0 exited with status 3 before training returned",
        ),
        (
            "run.evaluate(lambda images: torch.full((len(images), 10), float('nan') if run.rank else 0.0))",
            "invalid",
            "rank 1: InvalidPredictions: predict returned NaN or infinite scores",
        ),
        (
            "if run.rank == 0: run.evaluate(lambda images: torch.zeros(len(images), 10))\n    else: time.sleep(600)",
            "crashed",
            "rank 0: RanksApart: rank 0 came to an evaluation, and rank 1 did not within 2 s",
        ),
        (
            "if run.rank == 1: time.sleep(600)",
            "crashed",
            "rank 0: RanksApart: rank 0 came to the end of training, and rank 1 did not within 2 s",
        ),
        (
            "if run.rank == 0: run.evaluate(lambda images: torch.zeros(len(images), 10))",
            "crashed",
            "rank 0: RanksApart: rank 0 awaits 'predictions' of rank 1, which is at 'done'",
        ),
    ],
)
def test_the_reason_names_the_rank(race: Race, train: str, outcome: str, reason: str) -> None:
    record = race(race.plan(f"{BEGIN}def train(run, model):\n    {train}\n", rank_wait_s=2))
    assert (record.outcome, record.reason) == (outcome, reason)


def test_a_rank_that_hangs_ends_the_run_by_the_collective_that_waits_for_it(race: Race) -> None:
    hang = "def train(run, model):\n    if run.rank == 1: time.sleep(600)\n    dist.barrier()\n"
    record = race(race.plan(BEGIN + hang, rank_wait_s=2))
    assert record.outcome == "crashed"
    assert record.reason is not None
    assert record.reason.startswith("rank 0: RuntimeError")
    assert record.time.total_s is not None
    assert record.time.total_s < SOON_S


def test_no_rank_gets_data_before_the_clock_runs_and_only_the_first_has_the_referees_socket(race: Race) -> None:
    source = """
import os, socket

def say(line):
    os.write(1, f"{line}\\n".encode())  # at once: ranks share the file

def setup(run):
    try:
        run.arrays("train")
    except RuntimeError as error:
        say(f"before {run.rank} {error}")
    sockets = [socket.socket(fileno=int(name)) for name in os.listdir("/proc/self/fd") if is_socket(name)]
    say(f"sockets {run.rank} {sum(one.family == socket.AF_UNIX for one in sockets)}")
    [one.detach() for one in sockets]

def train(run, state):
    say(f"after {run.rank} {len(run.arrays('train')[0])}")

def is_socket(name):
    try:
        return os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    except OSError:
        return False
"""
    assert race(race.plan(source, ranks=3)).outcome == "missed"
    lines = race.path.with_name("output.log").read_text().splitlines()
    for rank, sockets in enumerate((3, 1, 1)):  # to the referee and two others; to rank 0
        assert any(line.startswith(f"before {rank} run.arrays is for train()") for line in lines)
        assert f"sockets {rank} {sockets}" in lines
        assert f"after {rank} 400" in lines


def test_a_submission_may_call_torchrun_itself(race: Race) -> None:
    source = """
import os, subprocess, sys, textwrap
import torch

WORKER = textwrap.dedent('''
    import os, sys, torch, torch.distributed as dist
    dist.init_process_group("gloo")
    images, labels = torch.load(sys.argv[1])
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    members = torch.eye(10)[labels[mine]]
    sums, counts = members.T @ images[mine], members.sum(0)
    dist.all_reduce(sums); dist.all_reduce(counts)
    if dist.get_rank() == 0:
        torch.save(sums / counts[:, None], sys.argv[2])
    dist.barrier()
    os._exit(0)
''')

def setup(run):
    return None

def train(run, state):
    images, labels = run.arrays("train")
    folder = os.environ["TMPDIR"]
    paths = [f"{folder}/{name}" for name in ("worker.py", "data.pt", "means.pt")]
    open(paths[0], "w").write(WORKER)
    torch.save((images.flatten(1).float(), labels), paths[1])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*torchrun, *paths], check=True)
    means = torch.load(paths[2])
    images, _ = run.arrays("test")
    scores = images.flatten(1).float() @ means.T - means.square().sum(1) / 2
    given = iter(scores.split(50))
    run.evaluate(lambda images: next(given), batch_size=50)
"""
    record = race(race.plan(source, ranks=1))
    assert record.outcome == "reached", race.path.with_name("output.log").read_text()


@given(count=st.integers(1, 500), batch_size=st.integers(2, 100), ranks=st.integers(1, 9))
def test_ranks_share_a_split_without_overlap_in_equal_steps(count: int, batch_size: int, ranks: int) -> None:
    options = [LoaderOptions(batch_size=batch_size, rank=rank, world_size=ranks) for rank in range(ranks)]
    if count < ranks:
        with pytest.raises(ValueError, match="cannot be dealt out"):
            batch_bounds(count, options[0])
        return
    bounds = [batch_bounds(count, each) for each in options]
    assert sorted(number for pairs in bounds for pair in pairs for number in range(*pair)) == list(range(count))
    assert len({len(pairs) for pairs in bounds}) == 1


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5"])
def test_a_count_that_is_none_is_refused(kit_run: Callable[..., Finished], count: str) -> None:
    done = kit_run(f"device.count={count}")
    assert done.returncode == 2
    assert done.stderr.startswith("kit: device.count:")


def test_a_submission_of_one_device_needs_the_usual_lines_alone(kit_run: Callable[..., Finished]) -> None:
    """digits, at its own target."""
    done = kit_run("submission=baselines/digits_cnn", "device=cpu", "device.count=2", "count_flops=false")
    assert done.record["outcome"] == "reached", done.stdout
    assert done.record["device"]["ranks"] == 2


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_ranks_reach_the_target_of_glyphs(kit_run: Callable[..., Finished]) -> None:
    overrides = ("track=glyphs", "submission=baselines/glyphs_cnn", "device=cpu", "device.count=2", "count_flops=false")
    done = kit_run(*overrides)
    assert done.record["outcome"] == "reached", done.stdout
