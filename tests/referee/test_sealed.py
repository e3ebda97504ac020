"""A sealed run does what an unsealed one does, says so, and does not start where it cannot be sealed."""

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT, Finished, why_no_sandbox

from kit.referee.sandbox import TRAINER_MODULES, box
from kit.track import Limits

sealed = pytest.mark.skipif((because := why_no_sandbox()) is not None, reason=because or "")


@sealed
@pytest.mark.parametrize("loader", ["torch", pytest.param("dali", marks=pytest.mark.slow)])
def test_the_baseline_reaches_the_target_sealed_and_is_counted_as_it_is_unsealed(
    loader: str, kit_run: Callable[..., Finished], tmp_path: Path
) -> None:
    flops = {}
    for isolation in ("process", "sandbox"):
        done = kit_run(f"isolation={isolation}", f"loader={loader}", f"results_dir={tmp_path / isolation}")
        assert done.returncode == 0, done.stderr
        record = Finished(0, "", "", tmp_path / isolation).record
        assert record["outcome"] == "reached"
        assert record["flops"]["trusted"]
        assert record["isolation"]["mode"] == isolation
        flops[isolation] = record["flops"]["train_total"] / record["steps"]["optimizer_steps"]
    assert record["isolation"]["defences"][-1] == "data_mounted_read_only"
    assert flops["sandbox"] == pytest.approx(flops["process"], rel=0.01)


@sealed
def test_an_environment_may_lie_where_the_box_has_folders_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tries the kit may well clone it to /tmp, and on a cluster to /scratch."""
    with tempfile.TemporaryDirectory(dir="/tmp") as environment:
        Path(environment, "marker").write_text("found\n")
        monkeypatch.setattr(sys, "prefix", environment)
        inside = f"cat {environment}/marker && echo x > /tmp/x && cat /scratch/x && ! echo y > {environment}/marker"
        line = [*box(tmp_path, {}, limits=Limits(run_s=60)), "sh", "-c", inside]
        done = subprocess.run(line, env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "found\nx\n"), done.stderr


def test_without_bubblewrap_nothing_is_run_and_kit_doctor_is_named(
    kit_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    done = subprocess.run(
        kit_command("isolation=sandbox"),
        cwd=ROOT,
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("kit: isolation=sandbox needs bubblewrap")
    assert "kit doctor" in done.stderr
    assert not list(tmp_path.glob("results/*/record.json"))


def test_every_module_that_the_trainer_imports_is_in_the_box_and_no_source_of_labels_is() -> None:
    files: set[Path] = set()
    for name in TRAINER_MODULES:
        path = ROOT / "kit" / name
        files |= set(path.rglob("*.py")) if path.is_dir() else {path}
    for file in files:
        for module in _imported(file):
            path = ROOT / Path(*module.split("."))
            assert path.with_suffix(".py") in files or path / "__init__.py" in files, f"{file}: {module}"
    assert not any("sources" in file.parts or "referee" in file.parts for file in files)


def _imported(file: Path) -> set[str]:
    """Modules of the kit that a file imports, those aside that only type checkers see."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] == "kit":
                inner = [f"{module}.{alias.name}" for alias in node.names]
                found.update(each for each in inner if (ROOT / Path(*each.split("."))).with_suffix(".py").is_file())
                found.add(module)
            case ast.Import():
                found.update(alias.name for alias in node.names if alias.name.split(".")[0] == "kit")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text()))
    return found


@sealed
def test_a_sealed_run_leaves_nothing_in_the_folder_for_temporary_files(
    kit_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = kit_command("isolation=sandbox", "loader=torch", "config.epochs=1", "config.cycles=1")
    subprocess.run(command, cwd=ROOT, env=os.environ | {"TMPDIR": str(temporary)}, capture_output=True, check=False)
    assert list(tmp_path.glob("results/*/record.json"))
    assert [path.name for path in temporary.iterdir() if path.name.startswith("kit-")] == []


LEVERS = """
import os
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/sys/power/state", "/proc/sysrq-trigger"):
    try:
        os.open(path, os.O_WRONLY)
        print("MANAGED", path)
    except OSError:
        print("REFUSED", path)
print(sorted(os.listdir("/dev")))
"""


@sealed
def test_a_box_with_a_gpus_device_files_shows_them_and_gives_no_lever_of_the_kernel(tmp_path: Path) -> None:
    node = next((name for name in ("fuse", "kmsg", "hwrng", "tty0") if Path("/dev", name).is_char_device()), None)
    if node is None:
        pytest.skip("no device file to stand for a GPU's")
    (tmp_path / "look.py").write_text(LEVERS)
    (tmp_path / "scratch").mkdir()
    command = box(tmp_path / "scratch", {"/look": tmp_path}, limits=Limits(run_s=9), gpu_nodes=[node])
    done = subprocess.run(
        [*command, sys.executable, "-I", "/look/look.py"], env={}, capture_output=True, text=True, check=True
    )
    assert "MANAGED" not in done.stdout
    assert done.stdout.count("REFUSED") == 4
    assert f"'{node}'" in done.stdout
