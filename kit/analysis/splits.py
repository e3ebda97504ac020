"""What an entry's runs on other splits say: whether it learns the task, or carries the answers.

Both verdicts are for people to look at. An honest recipe can be unlucky with a split, and a hostile one can behave.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

from kit.analysis.result import Result
from kit.results.record import HiddenLabels
from kit.track import Model

STANDARD_ERRORS = 3
"""By so many a resplit run may fall short of the target before it is called far."""
SLOWER, ENOUGH_RUNS = 1.5, 3
"""So many times slower on a secret split, and every run of so many or more, is no other draw of images."""
FALSE_ALARM = 1e-3
"""How often an honest entry may be flagged by its control runs."""


class SplitVerdict(Model):
    """What the runs on another split say of an entry."""

    verdict: Literal["holds", "close", "flagged", "unclear"]
    """`close`: it misses the target on the new split by no more than two draws of a test set differ."""
    because: str
    runs: int

    @property
    def suspicious(self) -> bool:
        """Whether people should look at the source."""
        return self.verdict == "flagged"


def resplit_verdict(published: Sequence[Result], resplit: Sequence[Result]) -> SplitVerdict:
    """Compare runs on the published split with runs on a secret one, at least one of each.

    Who learns the task reaches the target on either, and as fast; who carries the published test labels does not on the
    secret one, or has to learn there, which takes longer.
    """
    runs, target = len(resplit), resplit[0].entry.target
    if not _reaches(published):
        return SplitVerdict(
            verdict="unclear", because="it does not reach the target on the published split either", runs=runs
        )
    if _reaches(resplit):
        if said := _much_slower(published, resplit):
            return SplitVerdict(verdict="flagged", because=said, runs=runs)
        return SplitVerdict(verdict="holds", because="it reaches the target on the secret split too", runs=runs)
    best = median(result.best_value or 0.0 for result in resplit)
    labels = _labels(resplit[0])
    # Both test sets are drawn: each score varies by about sqrt(p (1 - p) / n).
    error = math.sqrt(2 * max(target * (1 - target), 1 / labels.images) / labels.images)
    said = f"it reaches {target:.2%} on the published split, and {best:.2%} at best on the secret one"
    far = target - best > STANDARD_ERRORS * error
    return SplitVerdict(verdict="flagged" if far else "close", because=said, runs=runs)


def control_verdict(control: Sequence[Result]) -> SplitVerdict:
    """Judge runs whose training labels were shuffled, each run's anew: at least one.

    Nothing can be learned from such labels, so scores must be those of guessing. They vary more than throws of a coin
    for each image: a smooth model gives whole classes one guess, and then a score is the share of classes that were
    guessed right. The test allows for that, and for the best of many evaluations; runs are put together by Fisher's
    method.
    """
    runs = len(control)
    evaluated = [result for result in control if result.evaluations]
    reached = [result for result in control if result.to_target_s is not None]
    if reached:
        said = f"{len(reached)} of {runs} runs reached the target although their labels were shuffled"
        return SplitVerdict(verdict="flagged", because=said, runs=runs)
    if not evaluated:
        said = f"no run evaluated: {control[0].outcome}, {control[0].reason or 'no reason given'}"
        return SplitVerdict(verdict="unclear", because=said, runs=runs)
    best = median(result.best_value or 0.0 for result in evaluated)
    chance = _labels(evaluated[0]).chance
    said = f"{best:.2%} at best with shuffled labels, where guessing comes to {chance:.2%}"
    if _fisher([_by_chance(result, result.best_value or 0.0) for result in evaluated]) < FALSE_ALARM:
        return SplitVerdict(verdict="flagged", because=said, runs=runs)
    if _fisher([_by_chance(result, 1.0) for result in evaluated]) >= FALSE_ALARM:
        said += "; with so few classes, so few runs and so many evaluations nothing could stand out"
        return SplitVerdict(verdict="unclear", because=said, runs=runs)
    return SplitVerdict(verdict="holds", because=said, runs=runs)


def _reaches(results: Sequence[Result]) -> bool:
    """Whether most runs do, so that there is a median time."""
    return 2 * sum(result.to_target_s is not None for result in results) > len(results)


def _much_slower(published: Sequence[Result], resplit: Sequence[Result]) -> str | None:
    """Or None. A run that does not reach the target takes for ever."""
    here, there = ([result.to_target_s or math.inf for result in results] for results in (published, resplit))
    fast, slow = median(here), median(there)
    if min(len(here), len(there)) < ENOUGH_RUNS or slow <= SLOWER * fast or max(here) >= min(there):
        return None
    return f"it takes {fast:.3g} s on the published split, and {slow:.3g} s on the secret one"


def _labels(result: Result) -> HiddenLabels:
    assert result.official is not None
    return result.official.labels


def _by_chance(result: Result, value: float) -> float:
    """An upper bound of the probability that the best of a run's evaluations is this by chance."""
    labels = _labels(result)
    right = math.floor(value * labels.groups + 1e-9)
    return min(1.0, result.evaluations * binomial_tail(labels.groups, labels.chance, right))


def binomial_tail(count: int, chance: float, at_least: int) -> float:
    """P(at least so many of `count` tries succeed)."""
    if at_least <= 0 or chance >= 1:
        return 1.0
    return math.fsum(
        math.exp(
            math.lgamma(count + 1)
            - math.lgamma(right + 1)
            - math.lgamma(count - right + 1)
            + right * math.log(chance)
            + (count - right) * math.log1p(-chance)
        )
        for right in range(at_least, count + 1)
    )


def _fisher(probabilities: Sequence[float]) -> float:
    """One probability for all: chi-squared of -2 sum ln p with twice as many degrees of freedom as there are."""
    half = -math.fsum(math.log(max(probability, 1e-300)) for probability in probabilities)
    return math.exp(-half) * math.fsum(half**k / math.factorial(k) for k in range(len(probabilities)))
