"""The command line: what it starts with, and what a mistake looks like."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from profiles import make_profile
from support import RIGHT_ANSWERS, ROOT, SETUP_NOTHING, Finished

from kit.hardware.profile import write_profile
from kit.report.units import dollars
from kit.results.store import read_record

PRICE = ("device.usd_per_hour=36", "device.price_source=https://example.com/on-demand", "device.price_date=2026-11-01")


def kit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kit.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sede=1"], "did you mean 'seed'?"),
        (["track=nothing"], "there is no track 'nothing'; available: cifar10, cifar10_96, digits"),
        (
            ["submission=baselines/nothing"],
            "there is no submission 'baselines/nothing'; available: baselines/",
        ),
        (["device=tpu"], "there is no device 'tpu'; available: auto, cpu, cuda"),
        (["config.lrr=1"], "config.lrr"),
        (["+config.momentum=0.9"], "declares no such hyperparameter"),
        (["+more=1"], "there is nothing called 'more'"),
        (["config.lr=high"], "config.lr: expected float, got 'high'"),
        (["config.epochs=1.5"], "config.epochs: expected int, got 1.5"),
        (["config.epochs=true"], "config.epochs: expected int, got True"),
        (["config.lr=99"], "config.lr: expected 0 to 10, got 99"),
        (["seed=first"], "seed: input should be a valid integer"),
        (["seed=-1"], "seed: input should be greater than or equal to 0, got -1"),
        (["track.target=1.5"], "track.target: input should be less than or equal to 1, got 1.5"),
        (["track.limits.run_s=0"], "track.limits.run_s: input should be greater than 0"),
        (["loader=pil"], "loader: input should be 'dali' or 'torch', got 'pil'"),
        (["isolation=none"], "isolation: input should be 'process' or 'sandbox', got 'none'"),
        (["data_dir=/proc/nothing/here"], "cannot prepare digits in /proc/nothing/here/digits"),
        (["results_dir=/proc/nothing/here"], "cannot write results to /proc/nothing/here"),
        (["device.usd_per_hour=3"], "device.usd_per_hour without device.price_source, device.price_date"),
        (["device.price_date=2026-11-01"], "device.price_date without device.usd_per_hour, device.price_source"),
        ([*PRICE, "device.usd_per_hour=-1"], "device.usd_per_hour: input should be greater than or equal to 0"),
        ([*PRICE, "device.usd_per_hour=inf"], "device.usd_per_hour: input should be a finite number"),
        ([*PRICE, "device.usd_per_hour=true"], "device.usd_per_hour: input should be a valid number"),
        ([*PRICE, "device.price_source=our invoice"], "expected the address of a page that anybody can open"),
        ([*PRICE, "device.price_date=2026-02-30"], "expected a day as 2026-11-24, got '2026-02-30'"),
        ([*PRICE, "device.price_date=20261101"], "expected a day as 2026-11-24, got '20261101'"),
        ([*PRICE, "device.price_date=9999-01-01"], "got 9999-01-01, a day to come"),
        (["seed=0,1"], "--multirun"),
        (["seed"], "seed"),
    ],
    ids=str,
)
def test_a_mistake_is_one_clear_line_and_status_2(
    overrides: list[str], expected: str, data_dir: Path, tmp_path: Path
) -> None:
    places = {"data_dir": data_dir, "results_dir": tmp_path / "results"}
    given = [f"{name}={place}" for name, place in places.items() if not any(name in override for override in overrides)]
    done = kit("run", *given, *overrides)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("kit: ")
    assert expected in done.stderr


def test_a_submission_that_does_not_enter_the_track_is_a_mistake(submission: Callable[..., Path]) -> None:
    folder = submission(SETUP_NOTHING, tracks=["cifar10"])
    done = kit("run", f"submission={folder}")
    assert done.returncode == 2
    assert "enters cifar10, not track 'digits'" in done.stderr


def test_what_would_run_is_printed_and_nothing_is_run(tmp_path: Path) -> None:
    done = kit("run", "--cfg", "job", "config.lr=0.5", f"results_dir={tmp_path / 'results'}")
    assert done.returncode == 0
    assert "lr: 0.5" in done.stdout
    assert not (tmp_path / "results").exists()


def test_help_lists_groups_submissions_and_hyperparameters() -> None:
    done = kit("run", "--help")
    assert done.returncode == 0
    for expected in (
        "baselines/digits_cnn",
        "track: cifar10, cifar10_96, digits",
        "logger: none, wandb",
        "lr: 0.1",
        "--multirun",
    ):
        assert expected in done.stdout


def test_a_sweep_leaves_one_record_per_run_and_reports_the_mistake_among_them(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = SETUP_NOTHING + "def train(run, state):\n    print('width', run.config.width)\n"
    folder = submission(source, config={"width": 8}, ranges={"width": [1, 64]})
    done = kit_run("--multirun", f"submission={folder}", "config.width=4,5,999", "loader=torch", "count_flops=false")
    assert done.returncode == 2
    assert "expected 1 to 64, got 999" in done.stderr
    records = [json.loads(path.read_text()) for path in done.results.glob("*/record.json")]
    assert sorted(record["submission"]["config"]["width"] for record in records) == [4, 5]


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["show", "RECORD"],
        ["show", "RECORD", "--json"],
        ["compare", "RECORD", "RECORD"],
    ],
)
def test_commands_that_train_nothing_do_not_import_torch_or_dali(command: list[str], example_record: Path) -> None:
    arguments = [str(example_record) if word == "RECORD" else word for word in command]
    code = (
        "import sys\nfrom kit.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'nvidia.dali', 'hydra', 'wandb', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_record_is_shown_to_people_and_to_programs(example_record: Path) -> None:
    people = kit("show", str(example_record), COLUMNS="200")
    assert people.returncode == 0
    for expected in ("reached 99.00%", "not measured", "optimizer steps", "Evaluations", "digits_cnn"):
        assert expected in people.stdout
    programs = kit("show", str(example_record), "--json")
    assert json.loads(programs.stdout) == json.loads((example_record / "record.json").read_text())
    rows = json.loads(programs.stdout)["flops"]["operators"]
    assert any(row["busy_s"] > 0 for row in rows)
    shown = people.stdout.partition("Operations")[2].splitlines()[2:]
    groups = {(row["operator_class"], row["dtype"], row["phase"]) for row in rows}
    assert len(rows) > len(groups)
    assert sorted(tuple(line.split()[:3]) for line in shown if line.strip()) == sorted(groups)


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        (["nowhere", "RECORD"], "nowhere: there is nothing here"),
        (["RECORD", "dawnbench:diux_cifar_p3"], "a comparison needs one target"),
        (["RECORD", "dawnbench:nobody_at_all"], "there is no DAWNBench entry"),
        (["RECORD", "RECORD", "--plot", "picture.gif"], "expected a file name that ends in .png, .svg, .pdf"),
    ],
)
def test_a_comparison_that_cannot_be_is_one_clear_line_and_status_2(
    sides: list[str], expected: str, example_record: Path
) -> None:
    done = kit("compare", *[str(example_record) if word == "RECORD" else word for word in sides])
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert expected in done.stderr


def test_a_run_compared_with_itself_gains_nothing(example_record: Path) -> None:
    done = kit("compare", str(example_record), str(example_record), "--json")
    content = json.loads(done.stdout)
    assert content["speedup"]["ratio"] == 1
    assert {factor["ratio"] for factor in content["factors"]} == {1}
    assert content["algorithmic_efficiency"]["ratio"] == 1


def test_a_run_has_its_own_time_on_a_reference_of_its_own_kind(example_record: Path, tmp_path: Path) -> None:
    record = read_record(example_record)
    mine = write_profile(make_profile(device=record.device), tmp_path / "mine.json")
    done = kit("reference", str(example_record), "--on", str(mine), "--json")
    content = json.loads(done.stdout)
    assert (content["tier"], content["time_s"]) == ("measured", record.time.to_target_s)
    shown = kit("reference", str(example_record), "--on", str(mine)).stdout
    assert "measured" in shown
    assert "a run on the reference device itself" in shown


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "is not in the table of specifications"),
        (["--on", "nowhere"], "there is no reference 'nowhere'; known: a100, h100, h200"),
        (["--on", "nowhere.json"], "nowhere.json: there is no device profile here"),
        (["--rerun", "RECORD"], "not on the reference h200"),
    ],
)
def test_a_reference_time_that_cannot_be_is_one_clear_line_and_status_2(
    options: list[str], expected: str, example_record: Path
) -> None:
    done = kit("reference", str(example_record), *[str(example_record) if it == "RECORD" else it for it in options])
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert expected in done.stderr


def test_a_profile_of_another_machine_is_no_help_to_a_comparison(example_record: Path, tmp_path: Path) -> None:
    other = write_profile(make_profile(), tmp_path / "other.json")
    done = kit("compare", str(example_record), str(example_record), "--profile", str(other))
    assert done.returncode == 2
    assert "is of Made with 2 threads; expected one of" in done.stderr


def test_a_priced_run_leaves_its_price_and_shows_its_cost(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = SETUP_NOTHING + RIGHT_ANSWERS + "def train(run, state):\n    run.evaluate(lambda images: answers())\n"
    done = kit_run(f"submission={submission(source)}", "loader=torch", "count_flops=false", *PRICE)
    assert done.returncode == 0, done.stderr
    assert done.record["cost"] == {
        "usd_per_hour": 36.0,
        "price_source": "https://example.com/on-demand",
        "price_date": "2026-11-01",
    }
    shown = kit("show", str(done.run_dir), COLUMNS="200").stdout
    assert "$36.00 per hour (2026-11-01, https://example.com/on-demand)" in shown
    assert f"cost    {dollars(done.record['time']['to_target_s'] / 100)}" in shown


def test_a_run_without_a_price_has_no_cost(example_record: Path) -> None:
    assert json.loads((example_record / "record.json").read_text())["cost"] is None
    assert "$" not in kit("show", str(example_record)).stdout


def test_the_shell_completes_groups_submissions_and_hyperparameters() -> None:
    def complete(line: str) -> set[str]:
        asked = {"_KIT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        command = Path(sys.executable).parent / "kit"
        done = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | asked)
        return set(done.stdout.split())

    assert {"submission=baselines/digits_cnn", "submission=baselines/digits_mlp"} <= complete("kit run submission=")
    assert "config.lr=" in complete("kit run seed=1 config.l")
    assert complete("kit sh") == {"show"}


def test_wandb_writes_offline_from_the_referee(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = SETUP_NOTHING + (
        "import sys\ndef train(run, state):\n    assert 'wandb' not in sys.modules\n"
        "    run.log(loss=float('nan'), epoch=1)\n    run.evaluate(lambda images: torch.zeros(len(images), 10))\n"
    )
    done = kit_run(f"submission={submission(source)}", "logger=wandb", "loader=torch", "count_flops=false")
    assert done.returncode == 1, done.stderr
    runs = list(done.results.glob("wandb/offline-run-*/*.wandb"))
    assert len(runs) == 1
    assert runs[0].stat().st_size > 0
    (run_dir,) = done.results.glob("2*")
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    assert {"loss": None, "epoch": 1.0} in [event.get("scalars") for event in events]
    assert [event["type"] for event in events] == ["started", "clock_started", "logged", "evaluated", "ended"]


@pytest.fixture(scope="session")
def example_record(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A run of the baseline, as `make run` does it."""
    results = tmp_path_factory.mktemp("results")
    done = kit("run", f"results_dir={results}", f"data_dir={data_dir}")
    assert done.returncode == 0, done.stdout + done.stderr
    (run_dir,) = results.glob("2*")
    return run_dir
