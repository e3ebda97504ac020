"""How long does it take until ranks are ready? One and two that the kit starts, and two under torchrun.

Ready is when `setup` has ended in every rank: Python, torch and the kit's trainer are imported, the process group
stands and a model is wrapped in DistributedDataParallel. Under torchrun a script does the same. All alternate, and the
order turns.

    python benchmarks/ranks.py [--rounds 10]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from kit.catalog import load_track
from kit.protocol import Job, Ready
from kit.referee.launch import Trainer
from kit.results.record import IsolationMode
from kit.track import DatasetSpec, Limits

ROOT = Path(__file__).parents[1]
SUBMISSION = """
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel


    def setup(run):
        model = nn.Linear(64, 10)
        return DistributedDataParallel(model) if run.world_size > 1 else model


    def train(run, model):
        pass
"""
UNDER_TORCHRUN = """
    import os
    import sys
    from pathlib import Path
    from types import SimpleNamespace

    import torch
    import torch._dynamo
    import torch.distributed

    import kit.trainer.run
    from kit.trainer.__main__ import _import_submission

    torch.distributed.init_process_group("gloo")
    _import_submission(Path(sys.argv[1])).setup(SimpleNamespace(world_size=2))
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        print("ready", flush=True)
    os._exit(0)
"""
LIMITS = Limits(run_s=60)
SPEC = DatasetSpec(
    name="digits", channels=1, height=8, width=8, classes=10, train_count=1, test_count=1, mean=(0.5,), std=(0.5,)
)


def by_the_kit(folder: Path, ranks: int, isolation: IsolationMode) -> float:
    """Seconds."""
    begun_s = time.monotonic()
    with Trainer(
        submission_dir=folder, limits=LIMITS, gpus=(), output=folder / "output.log", isolation=isolation, ranks=ranks
    ) as trainer:
        trainer.channel.send(
            Job(
                submission_dir=trainer.submission_dir,
                config={},
                track=load_track("digits"),
                dataset=SPEC,
                device="cpu",
                seed=0,
                loader="torch",
                counting=False,
            )
        )
        received = trainer.channel.receive()
        took_s = time.monotonic() - begun_s
        if received is None or not isinstance(received.message, Ready):
            raise SystemExit((folder / "output.log").read_text())
    return took_s


def by_torchrun(folder: Path) -> float:
    """Seconds."""
    begun_s = time.monotonic()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with subprocess.Popen(
        [*command, folder / "under_torchrun.py", folder / "submission.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("torchrun failed")
        return time.monotonic() - begun_s


def main() -> None:
    """Print medians, and the medians of the paired ratios and differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--isolation", choices=["process", "sandbox"], default="process")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "submission.py").write_text(textwrap.dedent(SUBMISSION))
        (folder / "under_torchrun.py").write_text(textwrap.dedent(UNDER_TORCHRUN))
        ways: dict[str, Callable[[], float]] = {
            "one rank": lambda: by_the_kit(folder, 1, arguments.isolation),
            "two ranks": lambda: by_the_kit(folder, 2, arguments.isolation),
            "two under torchrun": lambda: by_torchrun(folder),
        }
        took_s: dict[str, list[float]] = {way: [] for way in ways}
        names = list(ways)
        for number in range(-1, arguments.rounds):  # the first round fills caches
            for way in names[number % 3 :] + names[: number % 3]:
                seconds = ways[way]()
                if number >= 0:
                    took_s[way].append(seconds)
    for way, values in took_s.items():
        print(f"{way:<20} {statistics.median(values):6.2f} s   [{min(values):.2f}, {max(values):.2f}]")
    one, two, torchrun = took_s.values()
    ratio = statistics.median(b / a for a, b in zip(one, two, strict=True))
    print(f"two ranks take {ratio:.2f} x one rank")
    print(f"torchrun takes {statistics.median(b - a for a, b in zip(two, torchrun, strict=True)):.2f} s more")


if __name__ == "__main__":
    main()
