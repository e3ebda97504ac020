"""A real SLURM of one machine, in a folder: no systemd, nothing outside of it, as root or as anybody else."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
UP_S = 30.0
CPUS = 4
"""More than there need be: SLURM counts what it is told, and jobs of one CPU each shall run side by side."""


def why_no_slurm() -> str | None:
    """Why no cluster can be brought up here; None where one can."""
    missing = [command for command in COMMANDS if shutil.which(command, path=SBIN) is None]
    return f"needs {', '.join(missing)}: apt-get install munge slurm-wlm" if missing else None


class Cluster:
    """Runs between `start` and `stop`; `environment` is what its commands need to find it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self._settings = settings
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": SBIN}

    def start(self) -> None:
        for name in ("state", "spool", "log"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        self.folder.chmod(0o755)
        (self.folder / "slurm.conf").write_text(self._configuration())
        self._run(
            *("munged", "--force", "--num-threads=1", f"--key-file={key}", f"--socket={self.folder}/munge.sock"),
            *(f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/log/munged.log"),
            f"--seed-file={self.folder}/munged.seed",
        )
        self._run("slurmctld")
        self._run("slurmd", "-N", "here")
        self._wait_for_idle()

    def stop(self) -> None:
        self.run("scancel", "--state=PENDING,RUNNING,SUSPENDED", f"--user={getpass.getuser()}", check=False)
        deadline = time.monotonic() + UP_S
        while self.run("squeue", "-h", check=False).stdout and time.monotonic() < deadline:
            time.sleep(0.1)
        for daemon in ("slurmd", "slurmctld", "munged"):
            _end(self.folder / f"{daemon}.pid")

    def run(self, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """One of SLURM's commands."""
        return subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=check, timeout=UP_S
        )

    def _run(self, *command: str) -> None:
        # Daemons keep what they inherit: not the test's own output.
        log = self.folder / "log" / "start.log"
        with log.open("a") as output:
            done = subprocess.run(
                command, env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                check=False,
            )  # fmt: skip
        assert done.returncode == 0, log.read_text()

    def _wait_for_idle(self) -> None:
        deadline = time.monotonic() + UP_S
        while (state := self.run("sinfo", "-h", "-p", "normal", "-o", "%T", check=False).stdout.strip()) != "idle":
            assert time.monotonic() < deadline, f"{state}: {(self.folder / 'log/slurmctld.log').read_text()}"
            time.sleep(0.05)

    def _configuration(self) -> str:
        user, place = getpass.getuser(), self.folder
        control, node = _free_ports(2)
        values = {
            "ClusterName": "test",
            "SlurmctldHost": f"{socket.gethostname()}(127.0.0.1)",
            "SlurmctldPort": control,
            "SlurmdPort": node,
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={place}/munge.sock",
            "StateSaveLocation": place / "state",
            "SlurmdSpoolDir": place / "spool",
            "SlurmctldPidFile": place / "slurmctld.pid",
            "SlurmdPidFile": place / "slurmd.pid",
            "SlurmctldLogFile": place / "log/slurmctld.log",
            "SlurmdLogFile": place / "log/slurmd.log",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SlurmdParameters": "config_overrides",  # of CPUs, see above
            "SwitchType": "switch/none",
            "MpiDefault": "none",
            "ReturnToService": 2,
            "SchedulerParameters": "sched_min_interval=100000,bf_interval=1,batch_sched_delay=0",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU",
            "PreemptType": "preempt/partition_prio",
            "PreemptMode": "REQUEUE",
            "KillWait": 5,
            "MinJobAge": 300,
            "AccountingStorageType": "accounting_storage/none",
        }
        lines = [f"{name}={value}" for name, value in (values | self._settings).items()]
        cpus = max(CPUS, os.cpu_count() or 1)
        lines += [
            f"NodeName=here NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN",
            "PartitionName=normal Nodes=here Default=YES MaxTime=INFINITE State=UP PriorityTier=1",
            "PartitionName=urgent Nodes=here Default=NO MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF",
        ]
        return "\n".join(lines) + "\n"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _end(pid_file: Path) -> None:
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, 15)
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + UP_S
    while time.monotonic() < deadline:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    os.kill(pid, 9)
