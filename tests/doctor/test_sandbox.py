"""Bubblewrap, the read-only mount and cgroups: there, not there, and there but forbidden."""

import os
import shutil
from pathlib import Path

import pytest

from kit.doctor.sandbox import bubblewrap, cgroups, read_only_data


def put_bwrap(folder: Path, script: str) -> str:
    """A program of bubblewrap's name, and the path to find it by."""
    program = folder / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(folder)


def test_no_bubblewrap_on_the_path_says_how_to_install_it(tmp_path: Path) -> None:
    (finding,) = bubblewrap(path=str(tmp_path))
    assert (finding.status, finding.found) == ("missing", "no bwrap on the path")
    assert finding.advice is not None
    assert "apt install bubblewrap" in finding.advice


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_the_bubblewrap_of_this_machine_starts_a_box_or_says_why_not() -> None:
    (finding,) = bubblewrap()
    assert finding.found.endswith("a box starts") == (finding.status == "ok")


def test_a_box_that_starts_runs_a_program_to_its_end(tmp_path: Path) -> None:
    (finding,) = bubblewrap(
        path=put_bwrap(tmp_path, 'test "$1" = --unshare-all || exit 9; for last; do :; done; $last')
    )
    assert finding.status == "ok"


FORBIDDEN = "echo 'bwrap: No permissions to create new namespace' >&2; exit 1"


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"kernel/unprivileged_userns_clone": "0"}, "sysctl kernel.unprivileged_userns_clone=1"),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1", "user/max_user_namespaces": "0"},
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 user.max_user_namespaces=10000",
        ),
        ({"user/max_user_namespaces": "95000"}, "--security-opt seccomp=unconfined"),
        ({}, "--security-opt seccomp=unconfined"),
    ],
)
def test_a_box_that_may_not_start_names_the_setting_that_forbids_it(
    settings: dict[str, str], advice: str, tmp_path: Path
) -> None:
    for name, value in settings.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    (finding,) = bubblewrap(path=put_bwrap(tmp_path, FORBIDDEN), settings=tmp_path)
    assert finding.status == "missing"
    assert "exit status 1: bwrap: No permissions to create new namespace" in finding.found
    assert finding.advice is not None
    assert advice in finding.advice


def test_read_only_data_are_either_a_mount_or_come_with_advice() -> None:
    (finding,) = read_only_data()
    assert (finding.status == "ok") == ("read-only mount" in finding.found)
    assert (finding.status == "ok") == (finding.advice is None)


def make_group(root: Path, controllers: str) -> Path:
    """A cgroup tree with the group /user/mine, and the file that says we are in it."""
    group = root / "user" / "mine"
    group.mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory pids\n")
    (group / "cgroup.controllers").write_text(f"{controllers}\n")
    (group / "cgroup.procs").touch()
    own = root / "own"
    own.write_text("4:memory:/elsewhere\n0::/user/mine\n")
    return own


def test_a_delegated_cgroup_is_found(tmp_path: Path) -> None:
    (finding,) = cgroups(root=tmp_path, own=make_group(tmp_path, "cpu memory pids"))
    assert finding.status == "ok"


def test_a_cgroup_that_cannot_cap_memory_says_how_to_start_kit(tmp_path: Path) -> None:
    (finding,) = cgroups(root=tmp_path, own=make_group(tmp_path, "cpu pids"))
    assert finding.status == "missing"
    assert "does not control memory" in finding.found
    assert finding.advice is not None
    assert "systemd-run --user --scope -p Delegate=yes" in finding.advice


def test_a_cgroup_of_somebody_else_does_not_do(tmp_path: Path) -> None:
    own = make_group(tmp_path, "memory pids")
    (tmp_path / "user" / "mine" / "cgroup.procs").unlink()
    assert not os.access(tmp_path / "user" / "mine" / "cgroup.procs", os.W_OK)
    (finding,) = cgroups(root=tmp_path, own=own)
    assert finding.status == "missing"


def test_cgroups_of_version_1_do_not_do(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("4:memory:/elsewhere\n")
    (finding,) = cgroups(root=tmp_path, own=tmp_path / "own")
    assert (finding.status, finding.found) == ("missing", f"no cgroup v2 in {tmp_path}")
