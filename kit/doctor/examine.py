"""All checks in their order. One that fails itself is a finding too, and the others go on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kit.catalog import load_track, track_names
from kit.doctor import host, sandbox
from kit.doctor.apart import apart
from kit.doctor.data import prepared_data
from kit.doctor.finding import Finding, warning
from kit.doctor.rapl import rapl
from kit.doctor.trial import NAME as TRIAL
from kit.doctor.trial import trial_run
from kit.track import Model

APART_S = 120
"""A first import from a slow disk takes its time."""


@dataclass(frozen=True)
class Check:
    """Something to look at, which comes to one finding or to several."""

    name: str
    look: Callable[[], Iterable[Finding]]


class Examination(Model):
    """All that was found."""

    cpu_run_works: bool
    """Whether a run on the processor leaves its record in the results folder."""
    findings: tuple[Finding, ...]


def checks(data_dir: Path, results_dir: Path) -> Sequence[Check]:
    """Every check. The load is looked at before the doctor makes some itself."""
    return (
        Check("system", host.system),
        Check("load", host.processor),
        Check("limits", host.limits),
        Check("clock", host.clock),
        Check("compiler", host.compiler),
        Check("torch", partial(apart, "kit.doctor.libraries", "torch_works", APART_S)),
        Check("dali", partial(apart, "kit.doctor.libraries", "dali_works", APART_S)),
        Check("gpu", partial(apart, "kit.doctor.gpu", "gpu", APART_S)),
        Check("processor energy", rapl),
        Check("bubblewrap", sandbox.bubblewrap),
        Check("sandbox", sandbox.sandbox),
        Check("read-only data", sandbox.read_only_data),
        Check("cgroups", sandbox.cgroups),
        Check("data", lambda: prepared_data([load_track(name) for name in track_names()], data_dir)),
        Check("results folder", partial(host.results_folder, results_dir)),
        Check(TRIAL, partial(trial_run, "baselines/digits_cnn", "config.epochs=1", "config.cycles=1")),
    )


def examine(these: Sequence[Check], begin: Callable[[str], None] = lambda name: None) -> Examination:
    """Do the checks.

    Args:
        these: In this order.
        begin: Told of each one's name before it begins.
    """
    findings: list[Finding] = []
    for check in these:
        begin(check.name)
        try:
            findings.extend(check.look())
        except Exception as error:  # whatever it is: the doctor is there for machines on which things go wrong
            found = f"the check itself failed: {type(error).__name__}: {error}"
            findings.append(warning(check.name, found, "try it by hand; where that works, report a mistake of the kit"))
    status = {finding.name: finding.status for finding in findings}
    works = status.get(TRIAL) == "ok" and status.get("results folder") in ("ok", "warning")
    return Examination(cpu_run_works=works, findings=tuple(findings))
