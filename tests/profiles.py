"""A device profile to start from."""

from datetime import UTC, datetime
from typing import Any

from kit.hardware.profile import (
    Curve,
    LeftOut,
    Noise,
    Point,
    Profile,
    Settings,
    State,
    WorkloadTime,
)
from kit.results.record import Device, OperatorFlops, Software

QUIET = Noise(
    median_spread=0.02,
    p90_spread=0.05,
    rounds=6,
    disturbed=0.0,
    unclean=0,
    refused=(),
    noisy=False,
    because=None,
)


def make_curve(
    operator_class: str = "gemm", dtype: str = "float32", *, backward: bool = False, slow: float = 1
) -> Curve:
    """Five points of a machine of 100 GFLOP/s and 10 GB/s, or slower by a factor."""
    counted = operator_class in ("gemm", "conv")
    return Curve.model_validate(
        {
            "operator_class": operator_class,
            "dtype": dtype,
            "backward": backward,
            "points": [
                Point(
                    series="square",
                    flops_per_call=1e6 * 8**step if counted else 0,
                    bytes_per_call=1e5 * 4**step,
                    seconds=slow * (1e-5 * 8**step if counted else 1e-5 * 4**step),
                    spread=0.02,
                )
                for step in range(5)
            ],
        }
    )


def make_profile(*, slow: float = 1, **differently: Any) -> Profile:
    """A valid profile of a quiet machine, but for what is given."""
    content: dict[str, Any] = {
        "id": "20261124T120000Z-made-abcdef",
        "measured_at": datetime(2026, 11, 24, 12, tzinfo=UTC),
        "took_s": 90.0,
        "kit_version": "0.1.0",
        "device": Device(type="cpu", name="Made", count=1, threads=2, uuid_hash=None, driver=None, power_limit_w=None),
        "software": Software(python="3.11", torch="2.15", dali=None, hydra="1.3", cuda_driver=None),
        "settings": Settings(
            threads=2,
            matmul_allow_tf32=False,
            cudnn_allow_tf32=True,
            float32_matmul_precision="highest",
            cudnn_benchmark=False,
            onednn=True,
            environment={"OMP_NUM_THREADS": "2"},
        ),
        "state": State(
            clock_mhz=2600.0,
            power_limit_w=None,
            temperature_c=None,
            throttled_because=None,
            other_cores=0.01,
            other_gpu_processes=0,
        ),
        "launch_overhead_s": 2e-6,
        "curves": tuple(
            make_curve(kind, dtype, slow=slow)
            for kind in ("gemm", "conv", "elementwise")
            for dtype in ("float32", "bfloat16")
        ),
        "workloads": tuple(
            WorkloadTime(
                name=name,
                dtype="float32",
                compiled=False,
                step_s=0.01 * slow,
                spread=0.02,
                operators=(
                    OperatorFlops(
                        operator_class="gemm",
                        dtype="float32",
                        phase="training",
                        calls=3,
                        flops_per_call=1e6,
                        bytes_per_call=1e4,
                    ),
                ),
            )
            for name in ("cnn", "vit")
        ),
        "left_out": (LeftOut(what="cnn float32 compiled", because="there is no C++ compiler here"),),
        "noise": QUIET,
    }
    return Profile(**(content | differently))
