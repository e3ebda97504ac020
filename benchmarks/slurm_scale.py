"""What do many short jobs cost? A SLURM of one machine, brought up for it, and jobs that only leave a record.

Counts commands to the scheduler, files and bytes, and takes the time to submit, to start and end all jobs, and to
take in what they left; also how long plans of so many runs take to write and to read a line of.

    PYTHONPATH=.:tests python benchmarks/slurm_scale.py [--jobs 1000] [--runs 50000]
"""

import argparse
import os
import resource
import secrets
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from records import make_record
from slurm_cluster import Cluster, why_no_slurm
from tiny import make_track

from kit.configuration import slurm_settings
from kit.results.arrivals import Arrivals
from kit.score.plan import Planned, Shared, read_planned, write_plan
from kit.slurm import queue
from kit.slurm.fleet import Ended, Fleet, Settled, Submitted
from kit.slurm.settings import SlurmSettings
from kit.slurm.submit import submit, tidy

COPY = 'mkdir -p "$2" && cp "$1" "$2/.record.json" && mv "$2/.record.json" "$2/record.json"'


class Copies:
    """Jobs that copy a record to where a run would leave it."""

    def __init__(self, folder: Path, settings: SlurmSettings) -> None:
        self.folder, self.settings = folder, settings
        self.results = folder / "results"
        self.results.mkdir()
        (folder / "record.json").write_text(make_record().model_dump_json(indent=2))
        self.arrivals = Arrivals(self.results)
        self.seen: set[str] = set()
        self.submit_s, self.settle_s = 0.0, 0.0
        self.sizes: dict[str, int] = {}

    def submit(self, tasks: Sequence[int]) -> Submitted:
        """One array."""
        start, name = time.perf_counter(), f"kit-{secrets.token_hex(4)}"
        commands = [
            ["/bin/sh", "-c", COPY, "sh", str(self.folder / "record.json"), f"{self.results}/{task:06}"]
            for task in tasks
        ]
        jobs = submit(commands, self.settings, name, self.folder / "jobs" / name)
        self.sizes[name] = len(tasks)
        self.submit_s += time.perf_counter() - start
        return Submitted(name, jobs)

    def settle(self, task: int, ended: Ended, *, again: bool) -> Settled:
        """Take in a record."""
        start = time.perf_counter()
        if f"{task:06}" not in self.seen:
            self.seen.update(folder.name for folder, _ in self.arrivals.look())
        name, place = ended.place
        if f"{task:06}" in self.seen:
            tidy(self.folder / "jobs" / name, place, self.sizes[name])
            settled: Settled = "made"
        else:
            settled = "lost" if ended.late else "unseen"
        self.settle_s += time.perf_counter() - start
        return settled


def contents(folder: Path) -> tuple[int, int]:
    """Files and bytes below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def daemon_cpu_s(cluster: Cluster, name: str) -> float:
    times = psutil.Process(int((cluster.folder / f"{name}.pid").read_text())).cpu_times()
    return times.user + times.system


def jobs(folder: Path, count: int) -> None:
    cluster = Cluster(folder / "slurm", MaxJobCount=20_000)
    cluster.start()
    os.environ |= cluster.environment
    asked = [0]
    ask = queue._ask

    def counted(*command: str) -> Any:
        asked[0] += 1
        return ask(*command)

    queue._ask = counted
    try:
        settings = slurm_settings([f"hydra.launcher.{setting}" for setting in ("exclusive=false", "settle_s=10")])
        copies = Copies(folder, settings)
        fleet = Fleet(settings, copies, print, lambda line: None, "")
        start, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        lost = fleet.make(range(count))
        took_s, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime
        print(f"{count} jobs in {took_s:.1f} s, {len(lost)} lost; {count / took_s:.2f} a second")
        print(f"submitting {copies.submit_s:.2f} s in {len(copies.sizes)} sbatch; taking in {copies.settle_s:.2f} s")
        print(f"{asked[0]} questions to SLURM; the waiting process used {cpu_s:.2f} s of a core")
        print(
            f"slurmctld used {daemon_cpu_s(cluster, 'slurmctld'):.2f} s, slurmd {daemon_cpu_s(cluster, 'slurmd'):.2f} s"
        )
        print(f"left beside the records: {contents(folder / 'jobs')[0]} files, {contents(folder / 'jobs')[1]} bytes")
    finally:
        cluster.stop()


def plans(folder: Path, count: int) -> None:
    shared = Shared(
        track=make_track(),
        seeds=5,
        results_dir=folder,
        data_dir=folder,
        secret=folder,
        device="cpu",
        ranks=1,
        loader="torch",
        isolation="sandbox",
        cost=None,
    )
    runs = [
        Planned(
            submission=f"entry_{number}",
            path=folder / f"packs/entry_{number}.kit.zip",
            source_sha256=f"{number:064x}",
            split="published",
            seed_index=number % 5,
            dataset_fingerprint="0" * 64,
        )
        for number in range(count)
    ]
    path = folder / "all.plan"
    start = time.perf_counter()
    write_plan(path, shared, runs)
    wrote_s, reads = time.perf_counter() - start, []
    for number in range(0, count, max(1, count // 20)):
        start = time.perf_counter()
        read_planned(path, number)
        reads.append(time.perf_counter() - start)
    size = path.stat().st_size
    print(f"a plan of {count} runs: {size / 1e6:.1f} MB, written in {wrote_s:.2f} s; to read one of its runs takes")
    print(f"    {statistics.median(reads) * 1e3:.1f} ms (median), {max(reads) * 1e3:.1f} ms (the last)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=50_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kit-scale-") as place:
        plans(Path(place), options.runs)
        if (because := why_no_slurm()) is None:
            jobs(Path(place), options.jobs)
        else:
            print(because)


if __name__ == "__main__":
    main()
