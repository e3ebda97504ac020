"""`hydra.launcher`: what is asked of SLURM, and how it is waited for."""

from typing import Any, Literal

from pydantic import Field, ValidationError

from kit.errors import KitError
from kit.protocol import first_problem
from kit.track import Model


class SlurmSettings(Model):
    """conf/hydra/launcher/slurm.yaml, which says what each of it means."""

    timeout_min: int = Field(ge=1)
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    exclude: str | None
    nodelist: str | None
    gpus_per_node: int | None = Field(ge=0)
    cpus_per_task: int | None = Field(ge=1)
    mem_gb: float | None = Field(gt=0)
    exclusive: bool
    array_parallelism: int = Field(ge=1)
    additional_parameters: dict[str, Any]
    setup: tuple[str, ...]
    wait: bool
    retries: int = Field(ge=0)
    max_queued: int = Field(ge=1)
    signal_delay_s: int = Field(ge=0)
    poll_s: float = Field(gt=0)
    settle_s: float = Field(ge=0)
    silent_s: float = Field(gt=0)

    def device(self, wanted: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
        """What runs train on: `auto` is a GPU where jobs are given one. What this machine has says nothing."""
        if wanted == "auto":
            return "cuda" if self.gpus_per_node else "cpu"
        return wanted

    def sbatch(self) -> dict[str, Any]:
        """What submitit makes options of sbatch of.

        A job is never started a second time by SLURM (`no-requeue`): preempted with its record written, it would make
        the run once more. USR2 comes before the time limit.
        """
        given = self.model_dump(
            include={"partition", "account", "qos", "constraint", "exclude", "nodelist", "gpus_per_node"},
            exclude_none=True,
        )
        more = {"no-requeue": True} | self.additional_parameters
        common = {name: getattr(self, name) for name in ("cpus_per_task", "mem_gb") if getattr(self, name) is not None}
        return common | {
            "timeout_min": self.timeout_min,
            "tasks_per_node": 1,
            "nodes": 1,
            "stderr_to_stdout": True,
            **{f"slurm_{name}": value for name, value in given.items()},
            **({"slurm_exclusive": True} if self.exclusive else {}),
            "slurm_array_parallelism": self.array_parallelism,
            "slurm_signal_delay_s": self.signal_delay_s,
            "slurm_setup": list(self.setup),
            "slurm_additional_parameters": more,
        }


def read_settings(content: dict[str, Any]) -> SlurmSettings:
    """The settings in a composed `hydra.launcher`.

    Raises:
        KitError: The first thing that is wrong with it.
    """
    try:
        return SlurmSettings.model_validate({name: value for name, value in content.items() if name != "_target_"})
    except ValidationError as error:
        raise KitError(f"hydra.launcher.{first_problem(error)}") from None
