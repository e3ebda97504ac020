"""The job that this process is."""

import os

from kit.results.record import SchedulerJob


def this_job() -> SchedulerJob | None:
    """The SLURM job that this process runs in, or None outside of one."""
    environment = os.environ
    array, place = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    name = f"{array}_{place}" if array and place else environment.get("SLURM_JOB_ID")
    restarts = environment.get("SLURM_RESTART_COUNT", "0")
    if not name or not name.replace("_", "").isdecimal() or not restarts.isdecimal():
        return None
    return SchedulerJob(scheduler="slurm", id=name, restarts=int(restarts))
