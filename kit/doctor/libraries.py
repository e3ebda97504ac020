"""torch and DALI. To be run in a process of its own (`kit.doctor.apart`)."""

from collections.abc import Iterator

from kit.doctor.finding import Finding, missing, ok
from kit.hardware.machine import nvml

INSTALL = "install the kit's requirements again (make run does, in a fresh .venv)"
WITHOUT_DALI = f"kit run loader=torch does without; {INSTALL}"


def torch_works() -> Iterator[Finding]:
    """Whether torch computes, on the processor and on a GPU."""
    try:
        import torch

        product = torch.ones(64, 64) @ torch.ones(64, 64)
    except Exception as error:
        yield missing("torch", _told(error), INSTALL)
        return
    if product.sum().item() != 64**3:
        yield missing("torch", f"{torch.__version__} multiplies matrices wrongly", INSTALL)
        return
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    yield ok("torch", f"{torch.__version__}, {torch.get_num_threads()} threads, built {built}")
    try:
        torch.cuda.init()
        ones = torch.ones(64, 64, device="cuda")
        right = (ones @ ones).sum().item() == 64**3
    except Exception as error:
        advice = "runs use the processor; for a GPU see the row 'gpu', and take a torch that is built for its driver"
        yield missing("torch on the gpu", _told(error), advice)
        return
    name = torch.cuda.get_device_name()
    if right:
        yield ok("torch on the gpu", f"{name}, a trial product is right")
    else:
        yield missing("torch on the gpu", f"{name} multiplies matrices wrongly", "do not use this GPU")


def dali_works() -> Iterator[Finding]:
    """Whether a DALI pipeline runs, on the processor and on a GPU."""
    try:
        from nvidia import dali

        _trial_pipeline(gpu=False)
    except Exception as error:
        yield missing("dali", _told(error), WITHOUT_DALI)
        return
    yield ok("dali", f"{dali.__version__}, a trial pipeline runs")
    if not _gpus():
        yield missing("dali on the gpu", "no GPU", "pipelines run on the processor")
        return
    try:
        _trial_pipeline(gpu=True)
    except Exception as error:
        yield missing("dali on the gpu", _told(error), WITHOUT_DALI)
        return
    yield ok("dali on the gpu", "a trial pipeline runs")


def _trial_pipeline(*, gpu: bool) -> None:
    from nvidia.dali import Pipeline, fn

    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=0 if gpu else None)
    with pipeline:
        pipeline.set_outputs(fn.random.uniform(device="gpu" if gpu else "cpu", shape=(4, 4)))
    pipeline.build()
    pipeline.run()


def _gpus() -> int:
    import pynvml

    try:
        with nvml() as library:
            return int(library.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def _told(error: Exception) -> str:
    """An error by its first line: libraries like to append pages."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
