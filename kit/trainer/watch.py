"""What a training program is seen to do while it runs."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kit.protocol import Phase

if TYPE_CHECKING:
    import torch

    from kit.data.loaders import Batch


class Watch:
    """Somebody who is told; by default nobody, as in a timed run."""

    def on_phase(self, phase: Phase) -> None:
        """What follows belongs to `phase`."""

    def on_fetch(self) -> None:
        """A batch is about to be made."""

    def on_batch(self, batch: "Batch", first: bool) -> None:
        """It was made; `first` of its epoch."""

    def on_optimizer(self, optimizer: "torch.optim.Optimizer", closure: bool) -> None:
        """A step of an optimizer begins, and the passes through the model are inside where it has a closure."""

    def on_optimizer_done(self, optimizer: "torch.optim.Optimizer") -> None:
        """It ended."""

    def on_call(self, name: str, *arguments: Any) -> None:
        """The program called something of torch's that decides what is computed."""


def watched(loader: "Iterable[Batch]", watch: Watch) -> "Iterator[Batch]":
    """One epoch of a loader, of which `watch` is told."""
    batches, first = iter(loader), True
    while True:
        watch.on_fetch()
        batch = next(batches, None)
        if batch is None:
            return
        watch.on_batch(batch, first)
        first = False
        yield batch
