"""A cluster for the tests that need a real one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Cluster, why_no_slurm


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A SLURM of one machine, up."""
    if (because := why_no_slurm()) is not None:
        pytest.skip(because)
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that submissions wait for (see `WAITS`)."""
    return tmp_path / "gate"
