"""What only a GPU can confirm."""

import statistics
import threading
import time
from time import monotonic_ns

import pytest

from kit.hardware.machine import visible_gpu
from kit.meters.counter import CounterFollower
from kit.meters.energy import DISAGREEMENT, mean_power_w, measure
from kit.meters.nvml import Gpu
from kit.meters.sampler import Sampler

pytestmark = pytest.mark.gpu
LOAD_S = 30.0
IDLE_S = 5.0


class Watched:
    """The GPU with its counter and its sensor followed."""

    def __enter__(self) -> "Watched":
        uuid = visible_gpu()
        assert uuid is not None
        self._gpu = Gpu(uuid)
        self.counter, self.sampler = CounterFollower(self._gpu.counter_mj), Sampler(self._gpu)
        self.counter.start()
        self.sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.counter.stop()
        self.sampler.stop()
        self._gpu.close()


def multiply(until: threading.Event) -> None:
    """Matrix products of uneven size, so that no step is in time with the sensor."""
    import torch

    matrices = [torch.randn(size, size, device="cuda", dtype=torch.float16) for size in (4096, 6144, 8192)]
    while not until.is_set():
        for matrix in matrices:
            matrix @ matrix
        torch.cuda.synchronize()


def test_counter_and_sampled_power_agree_on_a_load_and_power_falls_back_to_idle() -> None:
    done = threading.Event()
    load = threading.Thread(target=multiply, args=(done,))
    with Watched() as gpu:
        time.sleep(IDLE_S)
        gpu.counter.await_tick()
        go_ns = monotonic_ns()
        load.start()
        time.sleep(LOAD_S)
        done.set()
        load.join()
        stop_s = (monotonic_ns() - go_ns) / 1e9
        time.sleep(3)
    ticks, samples = gpu.counter.ticks(go_ns), gpu.sampler.samples(go_ns)
    energy = measure(ticks, samples, stop_s)
    assert energy.method == "nvml_total_energy"
    assert energy.device_j is not None
    assert energy.sampled_j == pytest.approx(energy.device_j, rel=DISAGREEMENT)
    idle_w = mean_power_w(ticks, samples, -IDLE_S, 0)
    assert idle_w is not None
    assert energy.device_j > 1.5 * idle_w * stop_s


def test_an_idle_window_reads_idle_power() -> None:
    with Watched() as gpu:
        time.sleep(IDLE_S)
        gpu.counter.await_tick()
        go_ns = monotonic_ns()
        time.sleep(IDLE_S)
        stop_s = (monotonic_ns() - go_ns) / 1e9
        time.sleep(1)
    ticks, samples = gpu.counter.ticks(go_ns), gpu.sampler.samples(go_ns)
    idle_w = mean_power_w(ticks, samples, -IDLE_S, 0)
    energy = measure(ticks, samples, stop_s)
    assert idle_w is not None
    assert energy.device_j == pytest.approx(idle_w * stop_s, rel=0.1)


def test_the_counter_has_a_period_of_its_own() -> None:
    with Watched() as gpu:
        time.sleep(IDLE_S)
    ticks = gpu.counter.ticks(0)
    gaps_s = [float(gap) for gap in ticks.at_s[1:] - ticks.at_s[:-1]]
    assert len(gaps_s) > 10
    assert 0.005 < ticks.period_s < 0.5
    assert statistics.quantiles(gaps_s, n=10)[8] < 2 * ticks.period_s
