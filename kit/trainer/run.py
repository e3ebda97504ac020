"""What a submission gets: its configuration, its data once the clock runs, and the referee's verdicts."""

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from kit.data.augment import ArrayOptions, ImageOptions, LoaderOptions, batch_bounds
from kit.data.loaders import Batch, Loader, array_loader, image_loader
from kit.data.public import PublicArrays, PublicImages
from kit.protocol import Evaluating, Job, Log, Progress, Steps, first_problem
from kit.track import TOP_K, Track
from kit.trainer.ranks import Link
from kit.trainer.watch import Watch, watched

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


class StepsDone(BaseException):
    """Training was to end after so many steps: not an error, and not to be caught as one."""


class Run:
    """One training run. The kit makes it and hands it to the submission's `setup` and `train`.

    Attributes:
        config: The submission's hyperparameters, by attribute: `run.config.lr`.
        device: Where to train, a `torch.device`.
        seed: Everything is seeded with it before `setup` (Python, NumPy, torch).
        track: What is raced.
        rank, world_size: This process among those of the run. Where there are several, torch.distributed's default
            group joins them before `setup`.
    """

    def __init__(self, job: Job, link: Link) -> None:
        import torch

        self.config = _namespace(job.config)
        self.device = torch.device(job.device)
        self.seed = job.seed
        self.track: Track = job.track
        self.rank = link.rank
        self.world_size = link.world_size
        self._spec = job.dataset
        self._loader_kind = job.loader
        self._link = link
        self._wait_s = job.wait_s
        self._data: PublicArrays | PublicImages | None = None
        self._loaders: dict[tuple[str, ArrayOptions | ImageOptions], Loader] = {}
        self._counts = {"optimizer_steps": 0, "loader_batches": 0, "evaluations": 0}
        self.watch = Watch()
        self._max_steps = job.max_steps
        self._next_mark = 1

    # ---- before the clock

    def sample(
        self, n: int, *, size: int | None = None, dtype: "torch.dtype | None" = None, channels_last: bool = False
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Random stand-ins for a batch, to compile and warm up on: there is no data before the clock runs.

        Args:
            n: Images.
            size: Height and width where they are not the data's own; like the rest, as it will be asked of the loader.
            dtype: Of the images.
            channels_last: Their layout in memory.

        Returns:
            Images (n, C, H, W) with the statistics of normalised ones, and labels (n,) int64, on the device.
        """
        import torch

        spec = self._spec
        height, width = (spec.height, spec.width) if size is None else (size, size)
        images = torch.randn(n, spec.channels, height, width, device=self.device).to(dtype or torch.float32)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        labels = torch.randint(spec.classes, (n,), device=self.device)
        return images.contiguous(memory_format=layout), labels

    # ---- on the clock

    def loader(
        self,
        split: str,
        batch_size: int,
        *,
        drop_last: bool = False,
        flip: bool = False,
        dtype: "torch.dtype | None" = None,
        channels_last: bool = False,
        crop_padding: int | None = None,
        cutout: int | None = None,
        size: int | Sequence[int] | None = None,
        crop_area: tuple[float, float] | None = None,
        crop_aspect: tuple[float, float] | None = None,
    ) -> "_CountedLoader":
        """Batches of one split; each pass over it is one epoch with an order and augmentation of its own.

        Args:
            split: "train": shuffled, with labels; each rank gets its share, in as many batches as the others.
                "test": all of it in order, labels are None and nothing is augmented.
            batch_size: Images per batch and rank; the last one is smaller where it does not divide the split.
            drop_last: Leave out a smaller last batch.
            flip: Mirror half of the images left to right.
            dtype: torch.float32 (default), torch.float16 or torch.bfloat16.
            channels_last: Lay (N, C, H, W) out in memory as (N, H, W, C).
            crop_padding: Array data: zero pixels added on every side before a crop of the original size anywhere.
            cutout: Array data: side of a square, anywhere inside the image, that is set to the mean colour.
            size: Encoded images: the side of the square that they are brought to (default 224). Of a sequence, entry k
                holds for epoch k and the last one for all that follow.
            crop_area: Encoded images: cut a window of a random share of the image out, say (0.08, 1), before resizing
                it; without it, and in "test", the shorter side is resized to size / 0.875 and the centre cut out.
            crop_aspect: Encoded images: width through height of that window, default (3/4, 4/3).

        Returns:
            An iterable of (images, labels) with a length: (N, C, H, W), normalised by the data's mean and standard
            deviation, and int64 (N,), on the device. Calling again with the same arguments continues the same stream;
            other arguments begin a stream of their own. Ranks have to ask for the same loaders in the same order.

        Raises:
            RuntimeError: The clock is not running.
            ValueError: An argument is out of range, or not for this kind of data.
        """
        return self._loader(
            split,
            batch_size,
            shared=split == "train",
            drop_last=drop_last,
            flip=flip,
            dtype=dtype,
            channels_last=channels_last,
            crop_padding=crop_padding,
            cutout=cutout,
            size=size,
            crop_area=crop_area,
            crop_aspect=crop_aspect,
        )

    def _loader(
        self,
        split: str,
        batch_size: int,
        *,
        shared: bool,
        drop_last: bool = False,
        flip: bool = False,
        dtype: "torch.dtype | None" = None,
        channels_last: bool = False,
        crop_padding: int | None = None,
        cutout: int | None = None,
        size: int | Sequence[int] | None = None,
        crop_area: tuple[float, float] | None = None,
        crop_aspect: tuple[float, float] | None = None,
    ) -> "_CountedLoader":
        """As `loader`; with `shared` each rank gets its part."""
        data = self._need_data("loader")
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        train = split == "train"
        if not train and (flip or crop_padding or cutout or crop_area):
            raise ValueError("test images are not augmented: leave flip, crop_padding, cutout and crop_area out")
        common = {
            "batch_size": batch_size,
            "shuffle": train,
            "drop_last": drop_last,
            "flip": flip,
            "dtype": str(dtype or "float32").removeprefix("torch."),
            "channels_last": channels_last,
            "rank": self.rank if shared else 0,
            "world_size": self.world_size if shared else 1,
        }
        for_arrays = _given(crop_padding=crop_padding, cutout=cutout)
        sizes = (size,) if isinstance(size, int) else size and tuple(size)
        for_images = _given(sizes=sizes, crop_area=crop_area, crop_aspect=crop_aspect)
        labels = data.train_labels if train else None
        options: ArrayOptions | ImageOptions
        if isinstance(data, PublicArrays):
            _refuse(for_images, "encoded images of any size", self.track.name)
            options = _checked(ArrayOptions, common | for_arrays)
            if options.cutout > min(self._spec.height, self._spec.width):
                raise ValueError(f"cutout: {options.cutout} pixels are more than an image has")
            # A test split is sliced, not augmented: a pipeline would only be in the way.
            kind = self._loader_kind if train else "torch"
            images = data.train_images if train else data.test_images
            make = partial(array_loader, kind, images, labels, self._spec, options)
        else:
            _refuse(for_arrays, "images of one size", self.track.name)
            options = _checked(ImageOptions, {"sizes": (self._spec.height,)} | common | for_images)
            encoded = data.train_images if train else data.test_images
            make = partial(image_loader, self._loader_kind, encoded, labels, self._spec, options)
        key = (split, options)
        if key not in self._loaders:
            self._loaders[key] = make(seed=self.seed, stream=len(self._loaders), device=self.device)
        return _CountedLoader(self._loaders[key], self._counts, self.watch)

    def arrays(self, split: str) -> "tuple[torch.Tensor, torch.Tensor | None]":
        """A whole split on the device, for recipes that keep it there: images (N, C, H, W) uint8, labels (N,) int64.

        The labels of "test" are None.

        Raises:
            RuntimeError: The clock is not running.
            ValueError: There is no such split, or the images are encoded ones of many sizes.
        """
        import torch

        data = self._need_data("arrays")
        if isinstance(data, PublicImages):
            raise ValueError(f"track {self.track.name} has encoded images of many sizes: use run.loader")
        if split == "train":
            return torch.from_numpy(data.train_images).to(self.device), torch.from_numpy(data.train_labels).to(
                self.device
            )
        if split == "test":
            return torch.from_numpy(data.test_images).to(self.device), None
        raise ValueError(f"split is 'train' or 'test', not {split!r}")

    def evaluate(self, predict: Predict, *, batch_size: int | None = None, **options: Any) -> Verdict:
        """Predict every test image and have the referee score it. All of it is on the clock.

        Each rank predicts its share, and all get the same verdict: every rank has to call this.

        Args:
            predict: Takes images as `loader("test", ...)` gives them and returns scores (N, classes). A module is put
                into evaluation mode meanwhile. Gradients are off.
            batch_size: Images per call of `predict`; default 1000, of encoded images 250.
            **options: More for the loader: size, dtype, channels_last.

        Raises:
            RuntimeError: The clock is not running.
            InvalidPredictions: The scores have the wrong shape, or hold NaN.
            RanksApart: Another rank does not evaluate, too.
        """
        import torch

        data = self._need_data("evaluate")
        batch_size = batch_size or (1000 if isinstance(data, PublicArrays) else 250)
        loader = self._loader("test", batch_size, shared=True, **options).uncounted
        self._link.say(Evaluating())
        self._counts["evaluations"] += 1
        training = isinstance(predict, torch.nn.Module) and predict.training
        if training:
            predict.eval()  # type: ignore[attr-defined]
        self.watch.on_phase("evaluation")
        try:
            with torch.no_grad():
                best = [self._best_classes(predict, images) for images, _ in watched(loader, self.watch)]
                predictions = torch.cat(best).to("cpu", torch.int32).numpy()
        finally:
            self.watch.on_phase("training")
            if training:
                predict.train()  # type: ignore[attr-defined]
        shares = self._shares(batch_size) if self.world_size > 1 else []
        scored = self._link.verdict(predictions, shares, self._wait_s)
        return Verdict(scored.value, scored.reached)

    def log(self, **scalars: float) -> None:
        """Show numbers on the live display and keep them in the event file: `run.log(epoch=3, loss=0.4)`.

        Those of rank 0; other ranks' are dropped. The first 100,000 calls of a run are kept, up to 100 MiB.
        """
        values = {name: float(value) for name, value in scalars.items()}
        self._link.say(Log(scalars={name: value if math.isfinite(value) else None for name, value in values.items()}))

    # ---- for the kit

    def open_data(self, descriptor: int) -> None:
        """The clock runs: the public folder is here."""
        self._data = (PublicArrays if self._spec.format == "arrays" else PublicImages)(descriptor)

    def count_optimizer_step(self, *_: object) -> None:
        """A hook on every torch optimizer's `step`."""
        self._counts["optimizer_steps"] += 1
        done = self._counts["optimizer_steps"]
        if done == self._next_mark:
            self._next_mark *= 2
            self._wait_for_device()
            self._link.say(Progress(optimizer_steps=done))
        if done == self._max_steps:
            raise StepsDone

    @property
    def steps(self) -> Steps:
        """What was done so far."""
        return Steps(**self._counts)

    def _wait_for_device(self) -> None:
        """A step is done when its kernels are, not when they were launched."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _shares(self, batch_size: int) -> "list[NDArray[np.int64]]":
        """Numbers of the test images that each rank predicts."""
        ranks = (
            LoaderOptions(batch_size=batch_size, rank=rank, world_size=self.world_size)
            for rank in range(self.world_size)
        )
        bounds = (batch_bounds(self._spec.test_count, options) for options in ranks)
        return [np.concatenate([np.arange(*pair) for pair in pairs]) for pairs in bounds]

    def _need_data(self, what: str) -> PublicArrays | PublicImages:
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


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse(options: dict[str, Any], kind: str, track: str) -> None:
    if options:
        raise ValueError(f"{', '.join(options)}: for {kind}, which track {track} does not have")


Options = TypeVar("Options", ArrayOptions, ImageOptions)


def _checked(kind: type[Options], options: dict[str, Any]) -> Options:
    try:
        return kind(**options)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


class _CountedLoader:
    """A loader whose batches are counted; each `for` over it is one epoch."""

    def __init__(self, loader: Loader, counts: dict[str, int], watch: Watch) -> None:
        self.uncounted = loader
        self._counts = counts
        self._watch = watch

    def __len__(self) -> int:
        return len(self.uncounted)

    def __iter__(self) -> Any:
        batch: Batch
        for batch in watched(self.uncounted, self._watch):
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
