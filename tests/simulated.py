"""What a counter and a sensor of a known power curve would have shown to readings at known times."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kit.meters.readings import Samples, Ticks

Floats = NDArray[np.float64]
Curve = Callable[[Floats], Floats]
GRID_S = 0.0005


@dataclass(frozen=True)
class Seen:
    """What the meters saw, and the truth."""

    ticks: Ticks
    samples: Samples
    true_j: float


def watch(
    watts: Curve,
    stop_s: float,
    *,
    seed: int = 0,
    period_s: float = 0.1,
    phase_s: float = 0.005,
    jitter_s: float = 0.0005,
    poll_s: float = 0.004,
    window_s: float = 0.025,
    counter_window_s: float | None = None,
    gain: float = 1.0,
    before_s: float = 3.0,
    after_s: float = 3.0,
) -> Seen:
    """Watch a curve of power from `before_s` before `go` until `after_s` after the window.

    Args:
        watts: Power at times in seconds after `go`.
        stop_s: End of the window.
        seed: Of jitter and of the times of readings.
        period_s: Of counter and sensor.
        phase_s: So long before `go` the counter moved last.
        jitter_s: Largest deviation of the counter's steps from their times.
        poll_s: Shortest time between two readings of the counter; the longest is twice that.
        window_s: Which the sensor averages over.
        counter_window_s: A counter that takes power of the last so many seconds of a period for the whole.
        gain: Of the counter.
        before_s: See above.
        after_s: See above.
    """
    random = np.random.default_rng(seed)
    grid_s = np.arange(-before_s - 1, stop_s + after_s + 1, GRID_S)
    energy_j = np.concatenate([[0.0], np.cumsum(watts(grid_s + GRID_S / 2)) * GRID_S])
    ends_s = np.append(grid_s, grid_s[-1] + GRID_S)

    def drawn(at_s: Floats) -> Floats:
        return np.asarray(np.interp(at_s, ends_s, energy_j), np.float64)

    steps_s = np.arange(-np.floor(before_s / period_s), np.ceil((stop_s + after_s) / period_s)) * period_s - phase_s
    steps_s = steps_s + random.uniform(-jitter_s, jitter_s, len(steps_s))
    if counter_window_s is None:
        counted_j = drawn(steps_s)
    else:
        counted_j = np.cumsum((drawn(steps_s) - drawn(steps_s - counter_window_s)) / counter_window_s * period_s)
    polls_s = steps_s[0] + np.cumsum(random.uniform(poll_s, 2 * poll_s, int((steps_s[-1] - steps_s[0]) / poll_s)))
    polls_s = polls_s[polls_s < stop_s + after_s]
    shown = np.searchsorted(steps_s, polls_s, side="right")
    new = np.flatnonzero(np.diff(shown) > 0) + 1
    mj = np.round(1000 * gain * counted_j[shown[new] - 1]).astype(np.int64) + 10**9
    ticks = Ticks(since_s=polls_s[new - 1], seen_s=polls_s[new], mj=mj, read_until_s=float(polls_s[-1]))

    at_s = np.arange(-before_s, stop_s + after_s, 0.03)
    update_s = np.floor((at_s + phase_s) / period_s) * period_s - phase_s
    sensed = (drawn(update_s) - drawn(update_s - window_s)) / window_s
    true_j = float(drawn(np.array([stop_s]))[0] - drawn(np.array([0.0]))[0])
    return Seen(ticks, Samples(at_s, sensed), true_j)


def inside(load: Curve, stop_s: float, idle_w: float = 70.0) -> Curve:
    """The load in the window, idle power around it."""
    return lambda at_s: np.where((at_s >= 0) & (at_s < stop_s), load(at_s), idle_w)


def constant(watts: float) -> Curve:
    """Always the same."""
    return lambda at_s: np.full_like(at_s, watts)


def square(low: float, high: float, period_s: float) -> Curve:
    """Half of each period high."""
    return lambda at_s: np.where(at_s % period_s < period_s / 2, high, low)


def ramp(first: float, last: float, seconds: float) -> Curve:
    """Evenly from one to the other."""
    return lambda at_s: first + (last - first) * np.clip(at_s / seconds, 0, 1)


def noise(mean: float, spread: float, step_s: float, seed: int) -> Curve:
    """Uniform, and new after each step."""
    values = np.random.default_rng(seed).uniform(mean - spread, mean + spread, 10_000)
    return lambda at_s: values[np.floor(at_s / step_s).astype(int) % 10_000]
