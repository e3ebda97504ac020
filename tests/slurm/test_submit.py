"""What jobs leave beside their records."""

from pathlib import Path

import pytest

from kit.slurm.submit import last_words, tidy


def fill(folder: Path, jobs: list[str]) -> None:
    for job in jobs:
        (folder / f"{job}_submitted.pkl").touch()
        (folder / f"{job}_0_log.out").write_text(
            f"submitit INFO starting\nkit: {job} went wrong\nsrun: error: exit 2\n\n"
        )


@pytest.mark.parametrize("place", [0, 1, 10])
def test_files_of_one_job_of_an_array_are_removed_and_no_others(tmp_path: Path, place: int) -> None:
    fill(tmp_path, [f"71_{number}" for number in range(12)])
    assert last_words(tmp_path, place, 12) == f"71_{place} went wrong"
    tidy(tmp_path, place, 12)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        f"71_{number}_{kind}" for number in range(12) if number != place for kind in ("0_log.out", "submitted.pkl")
    }
    assert last_words(tmp_path, place, 12) is None


def test_a_job_that_was_submitted_alone_is_no_array(tmp_path: Path) -> None:
    fill(tmp_path, ["71"])
    assert last_words(tmp_path, 0, 1) == "71 went wrong"
    tidy(tmp_path, 0, 1)
    assert not list(tmp_path.iterdir())


def test_of_a_job_that_was_killed_slurm_has_the_last_word(tmp_path: Path) -> None:
    (tmp_path / "71_3_0_log.out").write_text("submitit INFO starting\nsrun: error: here: task 0: Killed\n")
    assert last_words(tmp_path, 3, 12) == "srun: error: here: task 0: Killed"
