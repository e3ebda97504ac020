"""Entry point of a rank of the trainer: `python -m kit.trainer SUPERVISOR_PID DESCRIPTOR...` (see `ranks.link`)."""

import importlib.util
import os
import signal
import sys
import traceback
from contextlib import nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from kit.protocol import Done, Failed, FailureKind, Job, ProtocolError
from kit.trainer.ranks import Link, link, meet
from kit.trainer.run import InvalidPredictions, Run, StepsDone, seed_everything
from kit.trainer.supervisor import die_with

if TYPE_CHECKING:
    from kit.trainer.counting import Phases

SUBMISSION_FILE = "submission.py"
TEXT_LIMIT = 16 << 10


def main() -> int:
    """Serve one job."""
    die_with(int(sys.argv[1]), signal.SIGKILL)
    descriptors = [int(descriptor) for descriptor in sys.argv[2:]]
    to_run = link(descriptors)
    job = to_run.job()
    if job is None:
        return 1
    try:
        done = _train(job, to_run, descriptors[1] if len(descriptors) > 1 else None)
        sys.stdout.flush()
        to_run.done(done, job.wait_s)
    except ProtocolError:  # the referee ended the run
        return 1
    except BaseException as error:
        failure = _describe(error)
        print(failure.traceback, file=sys.stderr, flush=True)
        to_run.failed(failure)
        return 1
    # No interpreter shutdown: threads that a library left running can abort it, and everything is said.
    os._exit(0)


def _train(job: Job, to_run: Link, meeting: int | None) -> Done:
    import torch
    import torch._dynamo  # the first optimizer imports it: seconds that are not training

    if job.loader == "dali":
        import nvidia.dali.plugin.pytorch  # noqa: F401 - likewise

    if to_run.world_size > 1:
        job = job.model_copy(update={"device": f"cuda:{to_run.rank}" if job.device.startswith("cuda") else job.device})
        meet(torch.device(job.device), meeting, job.wait_s)
    if not job.counting:
        return _race(job, to_run, None)
    from kit.trainer.auditing import Auditor
    from kit.trainer.counting import Phases, counting
    from kit.trainer.flops import OperatorCounter
    from kit.trainer.golden import check_counter
    from kit.trainer.sampling import Sampler

    check_counter(torch.device(job.device))
    counter = OperatorCounter(torch.device(job.device))
    watch: Phases
    if job.audit:
        watch = Auditor(counter, job.audit, everywhere=job.sampling_seed is None)
    elif job.sampling_seed is not None:
        watch = Sampler(counter, job.sampling_seed)
    else:
        watch = Phases(counter)
    with counting(watch):
        done = _race(job, to_run, watch)
    return done.model_copy(update={"audited": watch.audited}) if isinstance(watch, Auditor) else done


def _race(job: Job, to_run: Link, watch: "Phases | None") -> Done:
    """Set up, wait for the clock, train."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    run = Run(job, to_run)
    seed_everything(job.seed)
    submission = _import_submission(Path(job.submission_dir) / SUBMISSION_FILE)
    state = submission.setup(run)
    register_optimizer_step_post_hook(run.count_optimizer_step)

    run.open_data(to_run.ready(torch.get_num_threads()))
    if watch is not None:
        run.watch = watch
    with nullcontext() if watch is None else watch.active(), suppress(StepsDone):
        submission.train(run, state)
    return Done(
        steps=run.steps,
        device_peak_bytes=_device_peak_bytes(run.device),
        counted=None if watch is None else watch.counted(),
    )


def _import_submission(path: Path) -> ModuleType:
    sys.dont_write_bytecode = True  # the folder is evidence: nothing is added to it
    spec = importlib.util.spec_from_file_location("submission", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path.name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["submission"] = module
    spec.loader.exec_module(module)
    for name in ("setup", "train"):
        if not callable(getattr(module, name, None)):
            raise AttributeError(f"{path.name} must define {name}(run{', state' if name == 'train' else ''})")
    return module


def _device_peak_bytes(device: object) -> int | None:
    import torch

    return torch.cuda.max_memory_allocated() if str(device).startswith("cuda") else None


def _describe(error: BaseException) -> Failed:
    """A failure in the submission's own words: its traceback begins at its own file."""
    frames = error.__traceback__
    while frames is not None and not frames.tb_frame.f_code.co_filename.endswith(f"/{SUBMISSION_FILE}"):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))
    last_line = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return Failed(kind=_kind(error), reason=last_line[:TEXT_LIMIT], traceback=text[-TEXT_LIMIT:])


def _kind(error: BaseException) -> FailureKind:
    import torch

    if isinstance(error, InvalidPredictions):
        return "invalid"
    # The CPU allocator raises a plain RuntimeError.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
        return "out_of_memory"
    return "crashed"


if __name__ == "__main__":
    sys.exit(main())
