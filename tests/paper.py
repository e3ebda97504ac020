"""A baseline's whole training counted on paper: on tensors without contents, by the kit's own counter.

Steps that are alike are counted once and multiplied, so that a training of 10^18 operations takes seconds.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from support import ROOT
from torch._subclasses.fake_tensor import FakeTensorMode

from kit.catalog import load_track
from kit.protocol import Job
from kit.submission.manifest import Manifest, load
from kit.track import DatasetSpec
from kit.trainer.counting import Phases, counting
from kit.trainer.flops import OperatorCounter
from kit.trainer.run import Run, Verdict
from kit.trainer.tally import Tally

CIFAR10 = DatasetSpec(
    name="cifar10", channels=3, height=32, width=32, classes=10, train_count=50_000, test_count=10_000,
    mean=(0.5,) * 3, std=(0.25,) * 3,
)  # fmt: skip
IMAGENET = DatasetSpec(
    name="imagenet", channels=3, height=224, width=224, classes=1000, train_count=1_281_167, test_count=50_000,
    mean=(0.5,) * 3, std=(0.25,) * 3, format="jpeg",
)  # fmt: skip


@dataclass(frozen=True)
class Count:
    """Operations, two per multiply-add."""

    training: int
    """Forward and backward passes, and the optimizer."""
    optimizer: int
    """Of these."""
    evaluation: int
    per_step: tuple[int, ...]
    """Of each kind of training step, in the order that they came."""


def source_of(name: str) -> ModuleType:
    """A baseline's module."""
    spec = importlib.util.spec_from_file_location(f"baseline_{name}", ROOT / "baselines" / name / "submission.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def manifest_of(name: str) -> Manifest:
    """A baseline's manifest."""
    return load(ROOT / "baselines" / name)


class PaperCounter(OperatorCounter):
    """Lets tensors without contents be asked where they are."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "namespace", "") == "prim":
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)


class PaperRun(Run):
    """A run whose tensors have shapes and no contents, and whose verdicts are set beforehand."""

    def __init__(self, name: str, spec: DatasetSpec, evaluations: int, **config: Any) -> None:
        manifest = manifest_of(name)
        job = Job(
            submission_dir=str(ROOT / "baselines" / name),
            config=manifest.config | config,
            track=load_track(manifest.tracks[0]),
            dataset=spec,
            device="cpu",
            seed=0,
            loader="torch",
            counting=True,
        )
        super().__init__(job, SimpleNamespace(rank=0, world_size=1))  # type: ignore[arg-type]
        self.counter = PaperCounter(self.device)
        self.total = Tally()
        self.per_step: list[int] = []
        self._spec = spec
        self._evaluations = evaluations

    def batches(self, split: str, batch_size: int, drop_last: bool, sizes: tuple[int, ...], **how: Any) -> "Batches":
        """Of one split: the full ones once, and the smaller last one."""
        return Batches(self, split, batch_size, drop_last, sizes, how)

    def loader(  # type: ignore[override]
        self,
        split: str,
        batch_size: int,
        *,
        drop_last: bool = False,
        size: int | list[int] | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
        **_: Any,
    ) -> "Batches":
        """As the kit's loader, however images are augmented."""
        sizes = (size,) if isinstance(size, int) else tuple(size or (self._spec.height,))
        return self.batches(split, batch_size, drop_last, sizes, dtype=dtype, channels_last=channels_last)

    def arrays(self, split: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A whole split."""
        count, spec = self._spec.train_count, self._spec
        shape = (count, spec.channels, spec.height, spec.width)
        return torch.empty(shape, dtype=torch.uint8), torch.empty(count, dtype=torch.int64)

    def evaluate(self, predict: Any, *, batch_size: int | None = None, **options: Any) -> Verdict:
        """Reached at the last evaluation that was planned."""
        batch_size = batch_size or (1000 if self._spec.format == "arrays" else 250)
        training = isinstance(predict, torch.nn.Module) and predict.training
        if training:
            predict.eval()
        self.counter.enter("evaluation")
        with torch.no_grad():
            for images, _ in self.loader("test", batch_size, **options):
                assert predict(images).shape == (len(images), self._spec.classes)
        self.counter.enter("training")
        if training:
            predict.train()
        self._evaluations -= 1
        return Verdict(0.0, self._evaluations == 0)

    def log(self, **scalars: float) -> None:
        """To nobody."""


@dataclass
class Batches:
    """See `PaperRun.batches`."""

    run: PaperRun
    split: str
    batch_size: int
    drop_last: bool
    sizes: tuple[int, ...]
    how: dict[str, Any]
    epoch: int = 0

    def __len__(self) -> int:
        full, rest = self._kinds
        return full + (rest > 0)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        full, rest = self._kinds
        size = self.sizes[min(self.epoch, len(self.sizes) - 1)]
        self.epoch += 1
        first = min(full, self.epoch == 1)  # before which a recipe may look at the data
        for times, count in ((first, self.batch_size), (full - first, self.batch_size), (1, rest)):
            if times and count:
                before, self.run.counter.tally = self.run.counter.tally, Tally()
                yield self.run.sample(count, size=size, **self.how)
                self._keep(times, before)

    def _keep(self, times: int, before: Tally) -> None:
        tally, self.run.counter.tally = self.run.counter.tally, before
        self.run.total.add(tally.times(times, 1))
        flops = sum(row.flops for row in tally.counted(timed=False).operators)
        if self.split == "train" and flops not in self.run.per_step:
            self.run.per_step.append(flops)

    @property
    def _kinds(self) -> tuple[int, int]:
        spec = self.run._spec
        full, rest = divmod(spec.train_count if self.split == "train" else spec.test_count, self.batch_size)
        return full, 0 if self.drop_last else rest


@contextmanager
def without_contents() -> Iterator[None]:
    """Tensors have none; a module of such tensors cannot be moved or converted, and need not be."""
    with (
        FakeTensorMode(),
        patch.object(torch.nn.Module, "to", lambda self, *_, **__: self),
        patch.object(torch.nn.Module, "float", lambda self: self),
    ):
        yield


def count(name: str, spec: DatasetSpec, *, evaluations: int = 1, **config: Any) -> Count:
    """Count `train` to the given number of evaluations, with hyperparameters other than the declared ones."""
    run = PaperRun(name, spec, evaluations, **config)
    module = source_of(name)
    with without_contents():
        state = module.setup(run)
        with counting(Phases(run.counter)), run.counter:
            module.train(run, state)
    run.total.add(run.counter.tally)
    counted = run.total.counted(timed=False)
    phases = dict.fromkeys(("training", "optimizer", "evaluation"), 0)
    for row in counted.operators:
        phases[row.phase] += row.flops
    return Count(
        training=phases["training"] + phases["optimizer"],
        optimizer=phases["optimizer"],
        evaluation=phases["evaluation"],
        per_step=tuple(run.per_step),
    )
