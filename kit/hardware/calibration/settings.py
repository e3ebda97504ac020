"""How torch is set while something is timed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kit.hardware.profile import DtypeName, Settings

STEERING = (
    "OMP_",
    "KMP_",
    "GOMP_",
    "MKL_",
    "DNNL_",
    "ONEDNN_",
    "CUBLAS_",
    "CUDNN_",
    "NVIDIA_TF32_",
    "PYTORCH_",
    "ATEN_",
    "MALLOC_",
)
"""Beginnings of names of environment variables that change how fast torch is."""
TORCH_DTYPES: dict[DtypeName, torch.dtype] = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Setting:
    """One way of running on this machine."""

    dtype: DtypeName
    threads: int | None = None
    """None: as many as torch has."""
    onednn: bool = True

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Torch is set so inside, and as before afterwards. Switching costs microseconds."""
        threads, onednn = torch.get_num_threads(), torch._C._get_mkldnn_enabled()
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        tf32 = torch.cuda.is_available() and (matmul.allow_tf32, cudnn.allow_tf32)
        if self.threads is not None and self.threads != threads:
            torch.set_num_threads(self.threads)
        if tf32:
            matmul.allow_tf32 = cudnn.allow_tf32 = self.dtype == "tf32"
        torch._C._set_mkldnn_enabled(self.onednn)
        try:
            yield
        finally:
            torch._C._set_mkldnn_enabled(onednn)
            if tf32:
                matmul.allow_tf32, cudnn.allow_tf32 = tf32
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)


def dtypes_of(device: torch.device) -> tuple[DtypeName, ...]:
    """What a calibration measures on this kind of device."""
    return ("float32", "bfloat16") if device.type == "cpu" else ("float32", "tf32", "bfloat16", "float16")


def found_settings() -> Settings:
    """How torch is set now."""
    return Settings(
        threads=torch.get_num_threads(),
        matmul_allow_tf32=torch.backends.cuda.matmul.allow_tf32,
        cudnn_allow_tf32=torch.backends.cudnn.allow_tf32,
        float32_matmul_precision=torch.get_float32_matmul_precision(),
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        onednn=torch._C._get_mkldnn_enabled(),
        environment={name: value for name, value in sorted(os.environ.items()) if name.startswith(STEERING)},
    )
