"""What does a board of many records cost? Folders as `kit score` leaves them: every one is signed, and is verified.

    python benchmarks/board_scale.py [--records 10000 100000] [--folder FOLDER] [--site]

Each number of records is measured in a process of its own: until a board is printed, and until the site's pages and
downloads of tracks are written; with --site, until the whole site is, which has a dozen files for each entry.
"""

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from time import perf_counter

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console

from kit.analysis.board import make_board
from kit.analysis.material import read_material
from kit.report.board import print_board
from kit.report.site.build import build_site
from kit.report.site.content import tracks
from kit.report.site.folder import whole_folder
from kit.report.site.tracks import write_track
from kit.results.record import (
    Device,
    Energy,
    Evaluation,
    Flops,
    HiddenLabels,
    Isolation,
    Memory,
    Official,
    OperatorFlops,
    Progress,
    Record,
    Software,
    Steps,
    SubmissionInfo,
    Time,
    TrackInfo,
)
from kit.results.signing import sign
from kit.results.store import EVENTS_FILE, OUTPUT_FILE, RECORD_FILE, SOURCE_DIR
from kit.track import Limits

SEEDS, EVALUATIONS, OPERATORS = 5, 20, 60
START = datetime(2026, 1, 1, tzinfo=UTC)
GPUS = ("NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB")
TRACKS = {"cifar10": 0.94, "cifar10_95": 0.95, "imagenet": 0.93, "glyphs": 0.99}
SOURCE = "def setup(run):\n    ...\n\n\ndef train(run, state):\n    ...\n" * 20


def make_record(number: int) -> Record:
    """One run: seed after seed of one entry after the other."""
    chances = random.Random(number)
    entry, seed = divmod(number, SEEDS)
    track, target = list(TRACKS.items())[entry % len(TRACKS)]
    common = _record()
    to_target_s = chances.uniform(1, 100)
    started_at = START + timedelta(minutes=number)
    name = f"entry_{entry}"
    source = f"{entry:064x}"
    official = common.official
    assert official is not None
    return common.model_copy(
        update={
            "id": f"{started_at:%Y%m%dT%H%M%SZ}-{track}-{name}-s{seed}-{number:06x}",
            "started_at": started_at,
            "track": common.track.model_copy(update={"name": track, "title": track, "target": target}),
            "submission": common.submission.model_copy(update={"name": name, "source_sha256": source}),
            "seed": 1000 + seed,
            "time": Time(to_target_s=to_target_s, total_s=to_target_s + 0.01, setup_s=20.0, evaluation_s=1.0),
            "evaluations": tuple(
                Evaluation(
                    elapsed_s=to_target_s * step / EVALUATIONS,
                    evaluation_s=0.05,
                    value=target + 0.001 if step == EVALUATIONS else target * (1 - 0.5**step),
                    reached=step == EVALUATIONS,
                )
                for step in range(1, EVALUATIONS + 1)
            ),
            "energy": common.energy.model_copy(update={"device_j": to_target_s * chances.uniform(300, 600)}),
            "flops": common.flops.model_copy(update={"train_total": chances.randrange(10**14, 10**15)}),
            "device": common.device.model_copy(update={"name": GPUS[entry % len(GPUS)]}),
            "official": official.model_copy(update={"pack_sha256": source, "seed_index": seed}),
        }
    )


@cache
def _record() -> Record:
    """What all of them share."""
    return Record(
        id="",
        started_at=START,
        kit_version="0.1.0",
        git=None,
        track=TrackInfo(
            name="",
            version=1,
            title="",
            dataset="made",
            dataset_fingerprint="f" * 64,
            metric="top1",
            target=0.9,
            direction="max",
            limits=Limits(run_s=600),
            baseline="baselines/entry_0",
        ),
        submission=SubmissionInfo(
            name="",
            authors=("Ada Lovelace",),
            date="2026-01-01",
            base=None,
            source_sha256="",
            config={"lr": 0.1, "epochs": 20, "batch_size": 512},
        ),
        seed=0,
        loader="dali",
        outcome="reached",
        reason=None,
        traceback=None,
        time=Time(to_target_s=1.0, total_s=1.0, setup_s=20.0, evaluation_s=1.0),
        evaluations=(),
        progress=tuple(Progress(optimizer_steps=2**power, elapsed_s=0.01 * 2**power) for power in range(12)),
        steps=Steps(optimizer_steps=4000, loader_batches=4000, evaluations=EVALUATIONS),
        energy=Energy(
            device_j=1.0,
            method="nvml_total_energy",
            update_period_s=0.1,
            uncertainty_j=10.0,
            unavailable_because=None,
            idle_w=70.0,
        ),
        flops=Flops(
            method="replay",
            train_total=1,
            evaluation_total=10**12,
            operators=tuple(
                OperatorFlops(
                    operator_class=kind,
                    dtype=dtype,
                    phase="training",
                    calls=4000 + row,
                    flops_per_call=1.23456789e9 * (row + 1),
                    bytes_per_call=9.87654321e6 * (row + 1),
                )
                for row in range(OPERATORS // 6)
                for kind in ("gemm", "conv", "elementwise")
                for dtype in ("float32", "bfloat16")
            ),
            trusted=True,
        ),
        memory=Memory(device_peak_bytes=2**33, host_peak_bytes=2**31),
        device=Device(
            type="cuda", name="", count=1, threads=None, uuid_hash="0" * 64, driver="580.65", power_limit_w=700.0
        ),
        software=Software(python="3.11.7", torch="2.15.0", dali="2.4.0", hydra="1.3.2", cuda_driver="13.0"),
        isolation=Isolation(mode="sandbox", defences=("descriptor", "network", "processes", "memory")),
        official=Official(
            pack_sha256=None,
            split="published",
            seed_index=0,
            seeds=SEEDS,
            calibration=None,
            labels=HiddenLabels(images=10_000, chance=0.1, groups=10),
        ),
    )


def make_run(folder: Path, number: int) -> None:
    """One run's folder, with as many files as a real one, and signed."""
    record = make_record(number)
    run_dir = folder / record.id
    (run_dir / SOURCE_DIR).mkdir(parents=True)
    (run_dir / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n")
    (run_dir / EVENTS_FILE).write_text("".join(f"{verdict.model_dump_json()}\n" for verdict in record.evaluations))
    (run_dir / OUTPUT_FILE).write_text("")
    (run_dir / SOURCE_DIR / "submission.py").write_text(SOURCE)
    (run_dir / SOURCE_DIR / "submission.yaml").write_text(f"name: {record.submission.name}\n")
    sign(run_dir, _key())


@cache
def _key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def generate(folder: Path, count: int) -> None:
    """So many runs."""
    folder.mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(partial(make_run, folder), range(count), chunksize=100):
            pass


class Watch:
    """Processor time and memory of this process and of all below it, looked at ten times a second."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._cpu_s: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def cpu_s(self) -> float:
        """Of all of them, ended ones included."""
        return sum(self._cpu_s.values())

    def _look(self) -> None:
        while not self._over.wait(0.1):
            resident = 0
            for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    self._cpu_s[process.pid] = times.user + times.system
                    resident += process.memory_info().rss
            self.peak_bytes = max(self.peak_bytes, resident)


def measure(folder: Path) -> dict[str, float]:
    """Seconds that each step takes: reading and verifying everything, ranking it, and writing it in several ways."""
    with Watch() as watch:
        start = perf_counter()
        material = read_material(folder)
        read, read_cpu_s = perf_counter(), watch.cpu_s
        board = make_board(material)
        made, made_cpu_s = perf_counter(), watch.cpu_s
        board.model_dump_json()
        written = perf_counter()
        print_board(board, Console(file=io.StringIO(), width=200))
        shown = perf_counter()
        with tempfile.TemporaryDirectory() as scratch, whole_folder(Path(scratch) / "site") as site:
            for track in tracks(board):
                write_track(site, folder, board, track)
        drawn = perf_counter()
    assert not board.left_out, board.left_out[:3]
    assert all(row.signed_runs == row.entry.runs for table in board.tables for row in table.rows)
    return {
        "entries": sum(len(table.rows) for table in board.tables),
        "read_s": read - start,
        "rank_s": made - read,
        "json_s": written - made,
        "print_s": shown - written,
        "site_tracks_s": drawn - shown,
        "read_cpu_s": read_cpu_s,
        "rank_cpu_s": made_cpu_s - read_cpu_s,
        "peak_gb": watch.peak_bytes / 1e9,
    }


def measure_site(folder: Path) -> dict[str, float]:
    """Seconds until the whole site is written."""
    with tempfile.TemporaryDirectory() as scratch, Watch() as watch:
        start = perf_counter()
        built = build_site(folder, Path(scratch) / "site")
        site_s = perf_counter() - start
    return {
        "entries": built.entries,
        "files": built.files,
        "site_s": site_s,
        "cpu_s": watch.cpu_s,
        "peak_gb": watch.peak_bytes / 1e9,
    }


def main() -> None:
    """Make the records, measure and remove them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="Keep the records here, and use those that are there.")
    parser.add_argument("--site", action="store_true", help="Measure the whole site as well.")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure-site", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure)))
        return
    if arguments.measure_site is not None:
        print(json.dumps(measure_site(arguments.measure_site)))
        return
    with tempfile.TemporaryDirectory(prefix="board-scale-") as scratch:
        for count in arguments.records:
            folder = (arguments.folder or Path(scratch)) / f"{count}"
            if not folder.exists():
                generate(folder, count)
            for what in ("--measure", "--measure-site") if arguments.site else ("--measure",):
                command = [sys.executable, __file__, what, str(folder)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                found = json.loads(done.stdout)
                print(f"{count} records", " ".join(f"{name} {value:.3g}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
