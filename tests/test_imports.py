"""Imports point one way, and nothing heavy is imported before it is used."""

import ast
from pathlib import Path

import pytest
from support import ROOT

LAYERS = [
    {"cli"},
    {"configuration", "doctor", "score"},
    {"report"},
    {"submission"},
    {"referee"},
    {"analysis"},
    {"meters", "slurm"},
    {"hardware"},
    {"results", "data", "catalog"},
    {"protocol"},
    {"track", "errors", "tree", "collector", "version"},
]
"""From the top; a module imports from its own package and from layers below its own."""
TRAINER_MAY = {"trainer", "data", "protocol", "track", "errors", "tree", "version"}
REFEREE_ALSO = {"trainer.supervisor"}
CALIBRATION_ALSO = {"trainer.flops", "trainer.counting"}
"""Curves and records must speak one language; calibration runs nobody's code but the kit's."""
HEAVY = {
    "joblib",
    "torch",
    "torchvision",
    "nvidia",
    "hydra",
    "hydra_plugins",
    "omegaconf",
    "submitit",
    "wandb",
    "sklearn",
    "duckdb",
    "scipy",
    "matplotlib",
    "cryptography",
}
MAY_BE_HEAVY = {
    "kit/configuration.py": {"hydra", "omegaconf"},
    "kit/hardware/calibration/calibrate.py": {"torch"},
    "kit/hardware/calibration/isolate.py": {"torch"},
    "kit/hardware/calibration/kernels.py": {"torch"},
    "kit/hardware/calibration/measure.py": {"torch"},
    "kit/hardware/calibration/settings.py": {"torch"},
    "kit/hardware/calibration/suite.py": {"torch"},
    "kit/hardware/calibration/workloads.py": {"torch"},
    "kit/slurm/launcher.py": {"hydra", "hydra_plugins"},
    "kit/trainer/auditing.py": {"torch"},
    "kit/trainer/counting.py": {"torch"},
    "kit/trainer/flops.py": {"torch"},
    "kit/trainer/golden.py": {"torch"},
    "kit/trainer/rules.py": {"torch"},
    "kit/trainer/sampling.py": {"torch"},
    "kit/data/loaders/array_dali.py": {"torch", "nvidia"},
    "kit/data/loaders/array_torch.py": {"torch"},
    "kit/data/loaders/dali.py": {"torch", "nvidia"},
    "kit/data/loaders/finish.py": {"torch"},
    "kit/data/loaders/image_dali.py": {"torch", "nvidia"},
    "kit/data/loaders/image_torch.py": {"torch", "torchvision"},
}
MODULES = sorted((ROOT / "kit").rglob("*.py"))


def imported(path: Path, *, at_import: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() if at_import:
                return
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) if at_import:
                return
            case ast.Import():
                found.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str() as module):
                found.update(f"{module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def layer(package: str) -> int:
    return next(depth for depth, names in enumerate(LAYERS) if package in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    package = path.relative_to(ROOT / "kit").with_suffix("").parts[0]
    if package == "__init__":
        return
    for name in imported(path, at_import=False):
        parts = name.split(".")
        if parts[0] != "kit" or len(parts) < 2:
            continue
        target = parts[1]
        if package == "trainer":
            assert target in TRAINER_MAY, f"the trainer imports {name}"
        elif target == "trainer":
            calibration = path.is_relative_to(ROOT / "kit/hardware/calibration")
            assert package == "referee" or calibration, f"{name}: only the referee and calibration know the trainer"
            assert ".".join(parts[1:3]) in (CALIBRATION_ALSO if calibration else REFEREE_ALSO), name
        elif target not in {package, "__version__"}:
            assert layer(package) < layer(target), f"{path.relative_to(ROOT)} imports {name}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    allowed = MAY_BE_HEAVY.get(str(path.relative_to(ROOT)), set())
    heavy = {name.split(".")[0] for name in imported(path, at_import=True)} & HEAVY
    assert heavy <= allowed
