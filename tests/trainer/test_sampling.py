"""Counting part of the steps gives exactly what counting all of them gives, or says where it does not."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from kit.protocol import Counted, Sampling
from kit.trainer.counting import Phases, counting
from kit.trainer.flops import OperatorCounter
from kit.trainer.sampling import Sampler
from kit.trainer.watch import Watch, watched

Program = Callable[[Watch], None]


def run(watch: Phases, program: Program) -> Counted:
    torch.manual_seed(0)
    with counting(watch):
        warm_up()
        with watch.active():
            program(watch)
    return watch.counted()


def warm_up() -> None:
    """As in `setup`: not counted."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    optimizer.step()


def full(program: Program) -> Counted:
    return run(Phases(OperatorCounter()), program)


def sampled(program: Program, seed: int = 1) -> tuple[Counted, Sampling]:
    counted = run(Sampler(OperatorCounter(), seed), program)
    assert counted.sampling is not None
    return counted, counted.sampling


def timeless(counted: Counted) -> Any:
    rows = [row.model_copy(update={"busy_s": None}) for row in counted.operators]
    listed = [(row.operator, row.calls, row.bytes) for row in counted.uncounted]
    return sorted(rows, key=str), sorted(listed), counted.declared


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


def epoch(batches: int = 12, side: int = 8, last: int = 3, size: int = 4) -> Iterator[Any]:
    for index in range(batches):
        images = last if index == batches - 1 else size
        yield torch.randn(images, 3, side, side), torch.randint(10, (images,))


def loss_of(scores: torch.Tensor, labels: Any, **options: Any) -> torch.Tensor:
    return F.cross_entropy(scores, labels, **options)


def evaluate(watch: Watch, model: nn.Module, batches: int = 3) -> None:
    model.eval()
    watch.on_phase("evaluation")
    with torch.no_grad():
        torch.cat([model(images) for images, _ in watched(epoch(batches, last=2), watch)])
    watch.on_phase("training")
    model.train()


def train(watch: Watch, model: nn.Module, optimizer: Any, batches: Any) -> None:
    for images, labels in watched(batches, watch):
        optimizer.zero_grad()
        loss_of(model(images), labels).backward()
        optimizer.step()


# ---- programs


def plain(watch: Watch) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=100)
    for _ in range(8):
        train(watch, model, optimizer, epoch())
        schedule.step()
        evaluate(watch, model)


def growing_images(watch: Watch) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    for side in (4, 4, 6, 8, 8, 10):
        train(watch, model, optimizer, epoch(side=side))


def two_optimizers_in_turn(watch: Watch) -> None:
    first, second = network(), network()
    optimizers = torch.optim.AdamW(first.parameters()), torch.optim.SGD(second.parameters(), lr=0.1)
    for index, (images, labels) in enumerate(watched(epoch(60), watch)):
        for optimizer in optimizers:
            optimizer.zero_grad()
        scores = second(first(images).view(-1, 10, 1, 1)[:, :3].expand(-1, 3, 4, 4)) if index % 2 else first(images)
        loss_of(scores, labels).backward()
        optimizers[index % 2].step()


def accumulated_gradients(watch: Watch) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(5):
        for index, (images, labels) in enumerate(watched(epoch(), watch)):
            loss_of(model(images), labels).backward()
            if index % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()


def gradients_dropped_between_both_passes(watch: Watch) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for index, (images, labels) in enumerate(watched(epoch(60), watch)):
        loss = loss_of(model(images), labels)
        if index % 4 == 0:
            optimizer.zero_grad()
        loss.backward()
        if index % 4 == 3:
            optimizer.step()


def everything(watch: Watch) -> None:
    model, teacher = network(), network()
    first = torch.optim.AdamW(model.parameters())
    second = torch.optim.SGD(teacher.parameters(), lr=0.1)
    for number, side in enumerate((4, 6, 8, 8, 10, 10, 10, 10)):
        for index, (images, labels) in enumerate(watched(epoch(side=side), watch)):
            loss_of(model(images), labels).backward()
            if index % 2:
                first.step()
                first.zero_grad()
            if number > 4:
                loss_of(teacher(images), labels).backward()
                second.step()
                second.zero_grad()
        evaluate(watch, model)


def thawing_layers(watch: Watch) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for frozen in (3, 3, 2, 1, 0, 0):
        for number, layer in enumerate(model.children()):
            layer.requires_grad_(number >= frozen)
        train(watch, model, optimizer, epoch())


def selective_backward_passes(watch: Watch) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for index, (images, labels) in enumerate(watched(epoch(80), watch)):
        with torch.no_grad():
            losses = loss_of(model(images), labels, reduction="none")
        assert labels is not None
        hardest = losses.topk(2 if index % 5 else len(losses)).indices
        loss_of(model(images[hardest]), labels[hardest]).backward()
        if index % 5 != 3:
            optimizer.step()
        optimizer.zero_grad()


def precision_changes(watch: Watch) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for half in (True, True, True, False, False):
        for images, labels in watched(epoch(), watch):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = loss_of(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def checkpoints_now_and_then(watch: Watch) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for index, (images, labels) in enumerate(watched(epoch(50), watch)):
        scores = model(images) if index % 3 else checkpoint(model, images, use_reentrant=False)
        loss_of(scores, labels).backward()
        optimizer.step()
        optimizer.zero_grad()


def optimizer_inside_the_backward_pass(watch: Watch) -> None:
    model = network()
    for parameter in model.parameters():
        own = torch.optim.SGD([parameter], lr=0.1)

        def step(parameter: torch.Tensor, own: Any = own) -> None:
            own.step()
            own.zero_grad()

        parameter.register_post_accumulate_grad_hook(step)
    for _ in range(3):
        for images, labels in watched(epoch(), watch):
            loss_of(model(images), labels).backward()


def closures(watch: Watch) -> None:
    model = network()
    optimizers = torch.optim.LBFGS(model.parameters(), max_iter=3), torch.optim.SGD(model.parameters(), lr=0.1)
    for index, (images, labels) in enumerate(watched(epoch(24), watch)):
        optimizer = optimizers[index % 2]

        def closure(images: Any = images, labels: Any = labels, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = loss_of(model(images), labels)
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]


class Preconditioned(torch.optim.SGD):
    """Decomposes a matrix at every tenth step."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        if self.steps % 10 == 0:
            torch.linalg.eigh(torch.eye(16))
        return super().step(closure)


def an_optimizer_with_rare_work(watch: Watch) -> None:
    model = network()
    optimizer = Preconditioned(model.parameters(), lr=0.1)
    for _ in range(10):
        train(watch, model, optimizer, epoch())


def functions_without_modules(watch: Watch) -> None:
    weight = torch.randn(12, 10, requires_grad=True)
    images = torch.randn(64, 12)
    for step in range(40):
        rows = 4 + 4 * (step > 20)
        (images[:rows] @ weight).square().sum().backward()
        assert weight.grad is not None
        weight.data -= 0.1 * weight.grad
        weight.grad = None


def a_mode_of_its_own(watch: Watch) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for number in range(6):
        batches = watched(epoch(), watch)
        with torch.utils.flop_counter.FlopCounterMode(display=False):
            for _, (images, labels) in zip(range(5 + number), batches, strict=False):
                loss_of(model(images), labels).backward()
                optimizer.step()
        train(watch, model, optimizer, epoch())


PROGRAMS: list[Program] = [
    plain,
    growing_images,
    two_optimizers_in_turn,
    accumulated_gradients,
    gradients_dropped_between_both_passes,
    everything,
    selective_backward_passes,
    precision_changes,
    checkpoints_now_and_then,
    optimizer_inside_the_backward_pass,
    closures,
    an_optimizer_with_rare_work,
    functions_without_modules,
    a_mode_of_its_own,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_sampled_count_is_the_full_one(program: Program) -> None:
    whole = full(program)
    for seed in (1, 2):
        counted, sampling = sampled(program, seed)
        assert timeless(counted) == timeless(whole)
        assert sampling.mismatches == sampling.estimated == 0


def test_a_change_that_shows_late_in_a_step_is_counted_or_named_an_estimate() -> None:
    whole, found = timeless(full(thawing_layers)), set()
    for seed in range(8):
        counted, sampling = sampled(thawing_layers, seed)
        assert (timeless(counted) == whole) == (sampling.estimated == 0)
        assert sampling.estimated <= 5, "at most the first step of each stage"
        found.add(sampling.estimated)
    assert len(found) > 1


@given(seed=st.integers(0, 2**53 - 1))
@settings(deadline=None, max_examples=5)
def test_whatever_is_recounted_the_sum_is_the_same(seed: int) -> None:
    counted, sampling = sampled(everything, seed)
    assert timeless(counted) == timeless(full(everything))
    assert sampling.signatures < sampling.counted < sampling.steps


def test_most_steps_of_a_long_run_are_not_counted_and_some_are_again() -> None:
    def long(watch: Watch) -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            train(watch, model, optimizer, epoch(200, side=4))

    _, sampling = sampled(long)
    assert sampling.steps > 1600
    assert sampling.recounted > 5
    training_and_optimizer = 2 * 800
    unobserved = sampling.steps - training_and_optimizer
    assert sampling.counted - unobserved < 0.1 * training_and_optimizer


# ---- what nobody can see


class Secretive(nn.Module):
    """Does more work from a certain call on, and shows nothing of it."""

    def __init__(self, quiet: int) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 10)
        self.quiet, self.calls = quiet, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        for _ in range(5 * (self.calls > self.quiet)):
            images.flatten(1).T @ images.flatten(1)
        scores: torch.Tensor = self.layer(images.flatten(1))
        return scores


def secretive(quiet: int) -> Program:
    def program(watch: Watch) -> None:
        model = Secretive(quiet)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(20):
            train(watch, model, optimizer, epoch(50, side=2, last=4))

    return program


def test_a_recount_that_differs_is_told_and_ends_the_sampling_of_its_kind() -> None:
    counted, sampling = sampled(secretive(quiet=200))
    whole = full(secretive(quiet=200))
    assert sampling.mismatches >= 1
    assert sampling.estimated > 0
    work = 5 * 2 * 12 * 4 * 12
    seen = sum(row.flops for row in counted.operators) - sum(row.flops for row in whole.operators)
    assert abs(seen) < sampling.estimated * work


def test_a_step_that_was_mistaken_for_another_is_counted_when_it_comes_again_or_named_an_estimate() -> None:
    def program(times: int) -> Program:
        def late(watch: Watch) -> None:
            model, rare = network(), nn.Linear(10, 10)
            optimizer = torch.optim.SGD([*model.parameters(), *rare.parameters()], lr=0.1)
            for index, (images, labels) in enumerate(watched(epoch(60, last=4), watch)):
                scores = model(images)
                for _ in range(index in range(40, 40 + times)):
                    scores = rare(scores)
                loss_of(scores, labels).backward()
                optimizer.step()
                optimizer.zero_grad()

        return late

    counted, sampling = sampled(program(1), seed=5)
    assert sampling.estimated == 1
    rare_step = 2 * (2 * 4 * 10 * 10) + 2 * 4 * 10 * 10
    whole = full(program(1))
    assert sum(row.flops for row in whole.operators) - sum(row.flops for row in counted.operators) == rare_step
    counted, sampling = sampled(program(2), seed=5)
    assert sampling.estimated == 0
    assert timeless(counted) == timeless(full(program(2)))


def test_a_program_of_too_many_kinds_of_steps_is_counted_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.trainer.sampling.MAX_SIGNATURES", 5)
    counted, sampling = sampled(growing_images)
    assert timeless(counted) == timeless(full(growing_images))
    assert sampling.signatures <= 5
    assert sampling.counted > sampling.steps / 2


def test_what_raises_leaves_no_counter_and_no_hook_behind() -> None:
    def program(watch: Watch) -> None:
        plain(watch)
        raise KeyError("made")

    with pytest.raises(KeyError):
        sampled(program)
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()
    assert not torch.nn.modules.module._global_forward_hooks
