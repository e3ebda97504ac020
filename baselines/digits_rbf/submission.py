"""A radial basis function network, solved instead of trained: digits in some hundredths of a second.

One hidden unit per training image, which answers the more, the closer an image is to its own; the output weights are
the solution of a regularised least-squares problem (Broomhead and Lowe, 1988; also known as kernel ridge regression).
With a thousand images that is one small linear system: no steps, no epochs, no luck with a seed.

What each part is for:

* The clock never waits for a loader: the images are taken as arrays, and normalised as `run.evaluate` does it.
* A little regularisation makes the system safe to factor; its amount hardly matters.
"""

import torch
from torch.nn import functional as F

from kit import Run


def answers(images: torch.Tensor, centres: torch.Tensor, gamma: float) -> torch.Tensor:
    """What the hidden units (M, 64) say to images (N, 64): (N, M)."""
    return torch.cdist(images, centres).square_().mul_(-gamma).exp_()


def solve(centres: torch.Tensor, labels: torch.Tensor, gamma: float, ridge: float) -> torch.Tensor:
    """Output weights (M, 10) that give each training image its class."""
    system = answers(centres, centres, gamma)
    system.diagonal().add_(ridge)
    targets = F.one_hot(labels, 10).to(system.dtype) - 0.1
    return torch.cholesky_solve(targets, torch.linalg.cholesky(system))


def setup(run: Run) -> None:
    """Warm up the libraries on noise: the clock is not running. As many images as there will be, or nearly so."""
    images, labels = run.sample(1000)
    answers(images.flatten(1), images.flatten(1), run.config.gamma) @ solve(
        images.flatten(1), labels, run.config.gamma, run.config.ridge
    )


def train(run: Run, _: None) -> None:
    """Solve, and ask once: there is nothing to improve afterwards."""
    config = run.config
    pixels, labels = run.arrays("train")
    assert labels is not None
    images = pixels.flatten(1).float()
    centres = (images - images.mean()) / images.std(correction=0)
    weights = solve(centres, labels, config.gamma, config.ridge)
    verdict = run.evaluate(lambda images: answers(images.flatten(1), centres, config.gamma) @ weights)
    run.log(accuracy=verdict.value)
