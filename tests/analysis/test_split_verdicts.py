"""Runs on other splits: who learns is left alone, who carries the answers is flagged."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import make_results
from scipy.stats import binom

from kit.analysis.result import Result
from kit.analysis.splits import FALSE_ALARM, binomial_tail, control_verdict, resplit_verdict
from kit.results.record import HiddenLabels

REACHES = make_results(1.0, 1.1, 1.2, 1.3, 1.4)


def on_resplit(*times_s: float | None, best: float = 0.5) -> list[Result]:
    return make_results(*times_s, best=best, official={"split": "resplit"})


def on_control(*values: float, evaluations: int = 1, labels: HiddenLabels | None = None) -> list[Result]:
    official: dict[str, object] = {"split": "control"}
    if labels is not None:
        official["labels"] = labels
    return [
        result
        for value in values
        for result in make_results(None, best=value, evaluations=evaluations, official=official)
    ]


# ---- a new split


def test_who_reaches_the_target_on_a_secret_split_too_holds() -> None:
    assert resplit_verdict(REACHES, on_resplit(1.0, 1.0, 1.0, None, None)).verdict == "holds"


def test_who_falls_far_on_a_secret_split_is_flagged() -> None:
    found = resplit_verdict(REACHES, on_resplit(None, None, None, best=0.1))
    assert found.verdict == "flagged"
    assert found.suspicious
    assert "90.00% on the published split, and 10.00%" in found.because


def test_who_misses_by_what_two_test_sets_differ_is_close_and_not_suspicious() -> None:
    # Two scores of 1000 images at 90 % differ by 1.3 % (one standard error).
    found = resplit_verdict(REACHES, on_resplit(None, None, None, best=0.88))
    assert found.verdict == "close"
    assert not found.suspicious


def test_who_reaches_the_target_nowhere_is_not_judged() -> None:
    assert resplit_verdict(make_results(None, None, 1.0), on_resplit(None)).verdict == "unclear"


def test_a_run_that_never_evaluates_on_a_secret_split_is_flagged() -> None:
    crashed = make_results(None, official={"split": "resplit"}, evaluations=0, outcome="crashed")
    assert resplit_verdict(REACHES, crashed).verdict == "flagged"


def test_who_reaches_the_target_much_later_on_a_secret_split_is_flagged() -> None:
    found = resplit_verdict(REACHES, on_resplit(2.0, 2.5, 3.0))
    assert found.verdict == "flagged"
    assert "1.2 s on the published split, and 2.5 s on the secret one" in found.because


@pytest.mark.parametrize("times_s", [(1.7, 1.75, 1.79), (1.35, 2.5, 3.0), (2.0, 2.5)])
def test_who_is_a_little_slower_or_not_in_every_run_or_in_few_runs_holds(times_s: tuple[float, ...]) -> None:
    assert resplit_verdict(REACHES, on_resplit(*times_s)).verdict == "holds"


# ---- shuffled labels


def test_scores_of_guessing_hold() -> None:
    found = control_verdict(on_control(0.08, 0.12, 0.15, 0.1, 0.22, evaluations=20))
    assert found.verdict == "holds"
    assert "12.00% at best with shuffled labels, where guessing comes to 10.00%" in found.because


def test_who_reaches_the_target_from_shuffled_labels_is_flagged() -> None:
    assert control_verdict([*on_control(0.1), *make_results(1.0, official={"split": "control"})]).verdict == "flagged"


@pytest.mark.parametrize("value", [0.8, 0.899])
def test_who_scores_high_from_shuffled_labels_is_flagged_even_in_one_run(value: float) -> None:
    assert control_verdict(on_control(value, evaluations=20)).verdict == "flagged"


def test_what_one_run_leaves_open_five_runs_settle() -> None:
    assert control_verdict(on_control(0.5, evaluations=5)).verdict == "holds"
    assert control_verdict(on_control(*[0.5] * 5, evaluations=5)).verdict == "flagged"


def test_more_evaluations_are_more_chances() -> None:
    assert control_verdict(on_control(0.6, evaluations=1)).verdict == "flagged"
    assert control_verdict(on_control(0.6, evaluations=1000)).verdict == "holds"


def test_with_two_classes_nothing_can_stand_out_and_that_is_said() -> None:
    found = control_verdict(on_control(0.89, labels=HiddenLabels(images=1000, chance=0.5, groups=2)))
    assert found.verdict == "unclear"
    assert "nothing could stand out" in found.because


def test_a_thousand_classes_have_a_sharp_limit() -> None:
    labels = HiddenLabels(images=50_000, chance=0.005, groups=1000)
    assert control_verdict(on_control(0.006, evaluations=90, labels=labels)).verdict == "holds"
    assert control_verdict(on_control(0.05, evaluations=90, labels=labels)).verdict == "flagged"


def test_runs_that_never_evaluate_say_nothing() -> None:
    crashed = make_results(None, official={"split": "control"}, evaluations=0, outcome="crashed", reason="ValueError")
    found = control_verdict(crashed)
    assert found.verdict == "unclear"
    assert "crashed, ValueError" in found.because


def class_guesser(chances: random.Random, classes: int, evaluations: int) -> float:
    """The best of some evaluations of a model that gives each class of images one label, as good as drawn."""
    return max(
        sum(chances.randrange(classes) == right for right in range(classes)) / classes for _ in range(evaluations)
    )


@pytest.mark.parametrize(("classes", "runs", "evaluations"), [(10, 1, 1), (10, 5, 20), (3, 5, 4), (100, 3, 10)])
def test_honest_runs_that_give_whole_classes_one_guess_are_hardly_ever_flagged(
    classes: int, runs: int, evaluations: int
) -> None:
    chances = random.Random(0)
    labels = HiddenLabels(images=1000, chance=1 / classes, groups=classes)
    flagged = 0
    for _ in range(2000):
        values = [class_guesser(chances, classes, evaluations) for _ in range(runs)]
        # Reaching the target of 90 % by chance is a flag of its own kind; these runs only come near.
        flagged += control_verdict(on_control(*values, evaluations=evaluations, labels=labels)).suspicious
    # Binomial(2000, 0.001) stays below 10 in all but one of 10^5 cases.
    assert flagged < 10


@given(values=st.lists(st.floats(0, 0.89), min_size=1, max_size=5), evaluations=st.integers(1, 50))
def test_a_higher_score_is_never_less_suspicious(values: Sequence[float], evaluations: int) -> None:
    before = control_verdict(on_control(*values, evaluations=evaluations))
    after = control_verdict(on_control(*[0.9 for _ in values], evaluations=evaluations))
    assert not before.suspicious or after.suspicious


@given(count=st.integers(1, 300), chance=st.floats(0.001, 0.999), at_least=st.integers(-2, 301))
def test_the_tail_of_the_binomial_is_scipys(count: int, chance: float, at_least: int) -> None:
    assert binomial_tail(count, chance, at_least) == pytest.approx(
        binom.sf(at_least - 1, count, chance), rel=1e-6, abs=1e-300
    )


def test_the_level_is_the_one_that_the_documentation_names() -> None:
    assert FALSE_ALARM == 1e-3
