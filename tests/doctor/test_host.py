"""The machine without its GPU: folders, limits, clock and compiler, in good and in bad states."""

import subprocess
import sys
from pathlib import Path

import pytest

from kit.doctor import host
from kit.doctor.apart import FINDINGS, environment


def test_another_system_than_linux_does_not_do() -> None:
    assert [finding.status for finding in host.system("linux")] == ["ok"]
    (other,) = host.system("darwin")
    assert other.status == "missing"


def test_the_processor_is_named_with_its_load() -> None:
    cores, load = host.processor(interval_s=0.05)
    assert (cores.name, cores.status) == ("processor", "ok")
    assert "cores usable" in cores.found
    assert load.name == "load"
    assert "% of the processor is busy" in load.found


def test_other_work_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "BUSY_PERCENT", 0)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            _, load = host.processor(interval_s=1.0)
        finally:
            busy.kill()
    assert load.status == "warning"
    assert "most of it with " in load.found


def test_tight_limits_are_told_with_the_command_that_widens_them() -> None:
    command = f"ulimit -n 200; exec {sys.executable} -P -m kit.doctor.apart kit.doctor.host limits"
    done = subprocess.run(["bash", "-c", command], env=environment(), capture_output=True, check=True)
    files = next(finding for finding in FINDINGS.validate_json(done.stdout) if finding.name == "open files")
    assert (files.status, files.found) == ("warning", "up to 200")
    assert files.advice is not None
    assert "ulimit -n 4096" in files.advice


def test_shared_memory_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    *_, shared = host.limits(shared=tmp_path / "nothing")
    assert (shared.name, shared.status) == ("shared memory", "warning")


@pytest.mark.parametrize(
    ("source", "status"), [("tsc", "ok"), ("kvm-clock", "ok"), ("hpet", "warning"), ("acpi_pm", "warning")]
)
def test_a_slow_clock_is_told(source: str, status: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_text(f"{source}\n")
    (finding,) = host.clock(tmp_path / "source")
    assert finding.status == status
    assert source in finding.found


def test_a_clock_of_unknown_source_is_judged_by_its_resolution(tmp_path: Path) -> None:
    (finding,) = host.clock(tmp_path / "nothing")
    assert "the kernel does not name" in finding.found


def test_a_compiler_counts_where_a_trainer_looks(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "g++"
    program.parent.mkdir()
    program.touch(mode=0o755)
    (tmp_path / "Python.h").touch()
    (found,) = host.compiler(path=str(program.parent), headers=tmp_path)
    assert found.status == "ok"
    (without,) = host.compiler(path=str(program.parent), headers=tmp_path / "bin")
    assert (without.status, "no Python.h" in without.found) == ("warning", True)


def test_a_compiler_elsewhere_on_the_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "g++").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (elsewhere,) = host.compiler(path=str(tmp_path / "nothing"))
    assert elsewhere.status == "missing"
    assert f"{tmp_path}/g++ is not where a trainer looks" in elsewhere.found


def test_a_results_folder_need_not_exist_yet(tmp_path: Path) -> None:
    (finding,) = host.results_folder(tmp_path / "a" / "b")
    assert finding.status in ("ok", "warning")
    assert "GiB free" in finding.found
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "MIN_FREE_BYTES", 1 << 62)
    (finding,) = host.results_folder(tmp_path)
    assert (finding.status, finding.advice) == ("warning", "make room: a full disk ends a run without its record")


@pytest.mark.parametrize("place", ["/proc/nothing/here", "a file", "a file/below"])
def test_a_results_folder_that_cannot_be_written_is_missing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a file").touch()
    (finding,) = host.results_folder(Path(place))
    assert finding.status == "missing"
    assert f"{place} cannot be written" in finding.found
