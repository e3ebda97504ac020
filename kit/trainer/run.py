"""What a submission gets: its configuration, its data once the clock runs, and the referee's verdicts."""

import math
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kit.data.augment import LoaderOptions
from kit.data.loaders import Batch, Loader, array_loader
from kit.data.prepared import PublicArrays
from kit.protocol import Channel, Evaluating, Job, Log, Phase, Predictions, Scored, Steps, ToTrainer
from kit.track import TOP_K, Track

if TYPE_CHECKING:
    import torch

Predict = Callable[["torch.Tensor"], "torch.Tensor"]


class Verdict(NamedTuple):
    """The referee's answer to one evaluation."""

    value: float
    """Fraction of test images that are right, by the track's metric."""
    reached: bool
    """Whether that is the track's target or better: the clock has stopped."""


class InvalidPredictions(Exception):  # noqa: N818 - named as the record's outcome
    """`predict` returned something that cannot be scored."""


class Run:
    """One training run. The kit makes it and hands it to the submission's `setup` and `train`.

    Attributes:
        config: The submission's hyperparameters, by attribute: `run.config.lr`.
        device: Where to train, a `torch.device`.
        seed: Everything is seeded with it before `setup` (Python, NumPy, torch).
        track: What is raced.
        rank, world_size: This process among those of the run.
    """

    def __init__(self, job: Job, channel: "Channel[ToTrainer]") -> None:
        import torch

        self.config = _namespace(job.config)
        self.device = torch.device(job.device)
        self.seed = job.seed
        self.track: Track = job.track
        self.rank = 0
        self.world_size = 1
        self._spec = job.dataset
        self._loader_kind = job.loader
        self._channel = channel
        self._data: PublicArrays | None = None
        self._loaders: dict[tuple[str, LoaderOptions], Loader] = {}
        self._counts = {"optimizer_steps": 0, "loader_batches": 0, "evaluations": 0}
        self.on_phase: Callable[[Phase], None] = lambda phase: None

    # ---- before the clock

    def sample(self, n: int) -> "tuple[torch.Tensor, torch.Tensor]":
        """Random stand-ins for a batch, to compile and warm up on: there is no data before the clock runs.

        Returns:
            Images (n, C, H, W) float32 with the statistics of normalised ones, and labels (n,) int64, on the device.
        """
        import torch

        spec = self._spec
        images = torch.randn(n, spec.channels, spec.height, spec.width, device=self.device)
        return images, torch.randint(spec.classes, (n,), device=self.device)

    # ---- on the clock

    def loader(
        self,
        split: str,
        batch_size: int,
        *,
        drop_last: bool = False,
        crop_padding: int = 0,
        flip: bool = False,
    ) -> "_CountedLoader":
        """Batches of one split; each pass over it is one epoch with an order and augmentation of its own.

        Args:
            split: "train": shuffled, with labels. "test": in order, labels are None and nothing is augmented.
            batch_size: Images per batch; the last one is smaller where it does not divide the split.
            drop_last: Leave out a smaller last batch.
            crop_padding: Zero pixels added on every side before a crop of the original size at a random place.
            flip: Mirror half of the images left to right.

        Returns:
            An iterable of (images, labels) with a length: float32 (N, C, H, W), normalised by the training set's mean
            and standard deviation, and int64 (N,), on the device. Calling again with the same arguments continues the
            same stream.

        Raises:
            RuntimeError: The clock is not running.
            ValueError: An argument is out of range.
        """
        data = self._need_data("loader")
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        if split == "test" and (flip or crop_padding):
            raise ValueError("test images are not augmented: leave crop_padding and flip out")
        options = LoaderOptions(
            batch_size=batch_size,
            shuffle=split == "train",
            drop_last=drop_last,
            crop_padding=crop_padding,
            flip=flip,
        )
        key = (split, options)
        if key not in self._loaders:
            train = split == "train"
            self._loaders[key] = array_loader(
                # A test split is sliced, not augmented: a pipeline would only be in the way.
                self._loader_kind if train else "torch",
                data.train_images if train else data.test_images,
                data.train_labels if train else None,
                self._spec,
                options,
                seed=self.seed,
                device=self.device,
            )
        return _CountedLoader(self._loaders[key], self._counts)

    def arrays(self, split: str) -> "tuple[torch.Tensor, torch.Tensor | None]":
        """A whole split on the device, for recipes that keep it there: images (N, C, H, W) uint8, labels (N,) int64.

        The labels of "test" are None.

        Raises:
            RuntimeError: The clock is not running.
            ValueError: There is no such split.
        """
        import torch

        data = self._need_data("arrays")
        if split == "train":
            return torch.from_numpy(data.train_images).to(self.device), torch.from_numpy(data.train_labels).to(
                self.device
            )
        if split == "test":
            return torch.from_numpy(data.test_images).to(self.device), None
        raise ValueError(f"split is 'train' or 'test', not {split!r}")

    def evaluate(self, predict: Predict, *, batch_size: int = 1000) -> Verdict:
        """Predict every test image and have the referee score it. All of it is on the clock.

        Args:
            predict: Takes images as `loader("test", ...)` gives them and returns scores (N, classes). A module is put
                into evaluation mode meanwhile. Gradients are off.
            batch_size: Images per call of `predict`.

        Raises:
            RuntimeError: The clock is not running.
            InvalidPredictions: The scores have the wrong shape, or hold NaN.
        """
        import torch

        self._need_data("evaluate")
        self._channel.send(Evaluating())
        self._counts["evaluations"] += 1
        training = isinstance(predict, torch.nn.Module) and predict.training
        if training:
            predict.eval()  # type: ignore[attr-defined]
        self.on_phase("evaluation")
        try:
            with torch.no_grad():
                best = [self._best_classes(predict, images) for images, _ in self.loader("test", batch_size).uncounted]
                predictions = torch.cat(best).to("cpu", torch.int32).numpy()
        finally:
            self.on_phase("training")
            if training:
                predict.train()  # type: ignore[attr-defined]
        self._channel.send(Predictions(shape=predictions.shape), predictions)
        received = self._channel.receive()
        if received is None or not isinstance(received.message, Scored):
            raise SystemExit("the referee ended the run")
        return Verdict(received.message.value, received.message.reached)

    def log(self, **scalars: float) -> None:
        """Show numbers on the live display and keep them in the event file: `run.log(epoch=3, loss=0.4)`.

        The first 100,000 calls of a run are kept.
        """
        values = {name: float(value) for name, value in scalars.items()}
        self._channel.send(
            Log(scalars={name: value if math.isfinite(value) else None for name, value in values.items()})
        )

    # ---- for the kit

    def open_data(self, descriptor: int) -> None:
        """The clock runs: the public folder is here."""
        self._data = PublicArrays(descriptor)

    def count_optimizer_step(self, *_: object) -> None:
        """A hook on every torch optimizer's `step`."""
        self._counts["optimizer_steps"] += 1

    @property
    def steps(self) -> Steps:
        """What was done so far."""
        return Steps(**self._counts)

    def _need_data(self, what: str) -> PublicArrays:
        if self._data is None:
            raise RuntimeError(
                f"run.{what} is for train(): in setup() there is no data yet; run.sample gives stand-ins"
            )
        return self._data

    def _best_classes(self, predict: Predict, images: "torch.Tensor") -> "torch.Tensor":
        scores = predict(images)
        expected = (len(images), self._spec.classes)
        if tuple(getattr(scores, "shape", ())) != expected:
            raise InvalidPredictions(
                f"predict must return scores of shape {expected} for {len(images)} images, "
                f"not {tuple(getattr(scores, 'shape', ())) or type(scores).__name__}"
            )
        if not bool(scores.isfinite().all()):
            raise InvalidPredictions("predict returned NaN or infinite scores")
        top = TOP_K[self.track.metric]
        return scores.argmax(1, keepdim=True) if top == 1 else scores.topk(min(top, self._spec.classes), dim=1).indices


class _CountedLoader:
    """A loader whose batches are counted; each `for` over it is one epoch."""

    def __init__(self, loader: Loader, counts: dict[str, int]) -> None:
        self.uncounted = loader
        self._counts = counts

    def __len__(self) -> int:
        return len(self.uncounted)

    def __iter__(self) -> Any:
        batch: Batch
        for batch in self.uncounted:
            self._counts["loader_batches"] += 1
            yield batch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _namespace(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _namespace(item) for key, item in value.items()})
    return value
