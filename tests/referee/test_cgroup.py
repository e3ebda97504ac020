"""Caps that the kernel keeps: on files like those of a delegated control group, and on this kernel where it can."""

from pathlib import Path

import pytest

from kit.referee.cgroup import REFEREES, NotDelegated, control_group, own_group
from kit.track import Limits

LIMITS = Limits(run_s=1, memory_bytes=1 << 30, processes=50)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root with a group of ours; `own` says that this process is in it."""
    group = tmp_path / "user" / "mine"
    group.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (group / "cgroup.controllers").write_text("cpu memory pids\n")
    (group / "cgroup.procs").touch()
    (tmp_path / "own").write_text("0::/user/mine\n")
    return tmp_path


def test_a_trainers_group_has_the_tracks_caps_and_may_not_swap(tree: Path) -> None:
    with control_group(LIMITS, tree, tree / "own") as group:
        caps = {path.name: path.read_text() for path in group.folder.iterdir()}
        assert caps == {"memory.max": str(1 << 30), "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "50"}
        assert group.enter[-1] == str(group.folder / "cgroup.procs")
        assert (tree / "user/mine" / REFEREES / "cgroup.procs").exists()


def test_what_the_kernel_ended_for_its_memory_is_told(tree: Path) -> None:
    with control_group(LIMITS, tree, tree / "own") as group:
        events = group.folder / "memory.events"
        events.write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\n")
        assert group.overuse() is None
        events.write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 3\n")
        found = group.overuse()
        assert found is not None
        assert (found.fate, found.reason) == ("out_of_memory", "the trainer took more than 1.07 GB of memory")


def test_a_second_run_finds_the_group_above_the_referees(tree: Path) -> None:
    (tree / "own").write_text(f"0::/user/mine/{REFEREES}\n")
    assert own_group(tree, tree / "own") == tree / "user/mine"


def test_a_group_in_which_no_group_can_be_made_is_none(tree: Path) -> None:
    (tree / "user/mine" / REFEREES).write_text("in the way")
    with pytest.raises(NotDelegated, match="File exists"), control_group(LIMITS, tree, tree / "own"):
        pass


def test_a_kernel_that_delegates_keeps_a_real_process_to_its_caps(tmp_path: Path) -> None:
    import subprocess

    try:
        with control_group(LIMITS.model_copy(update={"processes": 8})) as group:
            command = [*group.enter, "/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert "fork" in done.stderr.lower()
        assert not group.folder.exists()
    except NotDelegated as error:
        pytest.skip(f"needs a delegated control group: {error}")
