"""The baselines of the digits track do what their pages say."""

import importlib.util
from collections.abc import Callable
from types import ModuleType

import torch
from support import ROOT, Finished

from kit.trainer.flops import OperatorCounter


def source(name: str) -> ModuleType:
    """A baseline's submission.py."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "baselines" / name / "submission.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shifted_images_are_all_nine_crops_of_the_bordered_one() -> None:
    shifted = source("digits_cnn").shifted
    image = torch.arange(100.0).view(1, 1, 10, 10)
    crops = {tuple(crop.flatten().tolist()) for crop in shifted(image.expand(500, 1, 10, 10))}
    assert crops == {
        tuple(image[0, 0, top : top + 8, left : left + 8].flatten().tolist()) for top in range(3) for left in range(3)
    }


def test_a_training_step_costs_three_forward_passes_without_the_gradient_of_the_images() -> None:
    submission = source("digits_cnn")
    model = submission.Net(24)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    counter = OperatorCounter()
    with counter:
        submission.step(model, optimizer, torch.zeros(50, 1, 8, 8), torch.zeros(50, dtype=torch.int64), 0.1)
    first, *others = 9 * 1 * 24 * 64, 9 * 24 * 48 * 64, 9 * 48 * 48 * 16, 16 * 48 * 10
    assert sum(row.flops for row in counter.counted().operators) == 50 * 2 * (2 * first + 3 * sum(others))


def test_only_what_the_network_is_unsure_about_is_looked_at_again() -> None:
    submission = source("digits_cnn")
    seen = []

    class Brightest(torch.nn.Module):
        """Sure of images that are bright in the corner."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(len(images))
            return 10 * torch.nn.functional.one_hot((images[:, 0, 0, 0] > 0).long(), 10) * images[:, :, 0, 0]

    images = torch.zeros(6, 1, 8, 8)
    images[:4, 0, 0, 0] = 1
    chances = submission.Looks(Brightest(), black=0.0)(images)
    assert seen == [6, 2 * len(submission.VIEWS)]
    torch.testing.assert_close(chances.sum(1), torch.ones(6))
    assert (chances[:4].amax(1) > submission.SURE).all()
    assert (chances[4:].amax(1) < submission.SURE).all()


def test_a_view_from_the_middle_is_the_image_itself() -> None:
    submission = source("digits_cnn")
    top, left = submission.VIEWS[0]
    image = torch.rand(1, 1, 8, 8)
    bordered = torch.nn.functional.pad(image, (1, 1, 1, 1))
    assert torch.equal(bordered[:, :, top : top + 8, left : left + 8], image)


def test_a_solved_network_needs_no_step_and_one_evaluation(kit_run: Callable[..., Finished]) -> None:
    record = kit_run("submission=baselines/digits_rbf", "loader=torch").record
    assert record["outcome"] == "reached"
    assert [evaluation["value"] for evaluation in record["evaluations"]] == [795 / 797]
    assert record["steps"]["optimizer_steps"] == 0
    assert record["flops"]["trusted"]
    distances, factoring, solving = 2 * 1000 * 64 * 1000, 1000**3 / 3, 2 * 1000**2 * 10
    assert record["flops"]["train_total"] == round(distances + factoring + solving)
    assert record["flops"]["evaluation_total"] == 2 * 797 * 1000 * (64 + 10)
