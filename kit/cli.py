"""The `kit` command. Each subcommand is a thin call into one package."""

import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from kit.errors import KitError
from kit.version import __version__

if TYPE_CHECKING:
    from kit.configuration import Configuration
    from kit.data.prepared import Prepared
    from kit.track import Track

app = typer.Typer(
    name="kit",
    help="Time, energy and compute to a fixed accuracy, refereed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data = typer.Typer(
    name="data", help="What tracks are raced on: list, prepare, verify, synthesize.", no_args_is_help=True
)
app.add_typer(data)

TrackName = Annotated[str, typer.Argument(help="A track's name, or a track file of your own (.yaml).")]
SIDE_HELP = (
    "A record or a run's folder, a folder of one entry's runs, or a published entry such as dawnbench:CIFAR10/..."
)
DataDir = Annotated[Path, typer.Option(help="Where prepared data lies.")]


class SyntheticKind(StrEnum):
    """What `kit data synthesize` writes."""

    CIFAR10 = "cifar10"
    CIFAR10_BINARY = "cifar10-binary"
    IMAGENET = "imagenet"
    IMAGENET_TARS = "imagenet-tars"


def _complete_overrides(context: typer.Context, incomplete: str) -> list[str]:
    from kit.configuration import complete

    return complete(list(context.args), incomplete)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    short_help="Train a submission under the referee and leave its record (Hydra overrides; see kit run --help).",
)
def run(
    context: typer.Context,
    overrides: Annotated[list[str] | None, typer.Argument(autocompletion=_complete_overrides)] = None,
) -> None:
    """One run, or many with --multirun. Hydra prints the help."""
    from kit.configuration import run_hydra

    missed = 0

    def one(configuration: "Configuration") -> None:
        nonlocal missed
        missed += not _run_one(configuration)

    # SIGTERM, as schedulers send it, ends a run as Ctrl-C does: with a record.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_hydra([*(overrides or []), *context.args], one)
    raise typer.Exit(1 if missed else 0)


def _run_one(configuration: "Configuration") -> bool:
    from kit.referee.run import run as referee
    from kit.report.live import Display
    from kit.report.reference import reference_of
    from kit.report.wandb_logger import WandbLogger

    plan = configuration.plan()
    prepared = _prepared(plan.track, configuration.data_dir)
    observers: list[Display | WandbLogger] = [Display(Console())]
    logger = configuration.logger
    if logger.type == "wandb":
        config = configuration.model_dump(mode="json", exclude={"logger", "data_dir", "results_dir"})
        observers.append(WandbLogger(logger.project, logger.mode, configuration.results_dir, config))
    of_reference = reference_of(configuration.reference, configuration.device.profile)
    try:
        record, _ = referee(plan, prepared, observers)
    finally:
        for observer in observers:
            observer.close()
    if record.outcome == "reached":
        Console().print(f"on reference {of_reference(record)}", highlight=False, soft_wrap=True)
    return record.outcome in ("reached", "partial")


def _prepared(track: "Track", data_dir: Path, *, source: Path | None = None, rehearsal: bool = False) -> "Prepared":
    from kit.data.preparation import prepare
    from kit.data.sources import Request
    from kit.report.progress import progress

    with progress(Console(), f"preparing {track.dataset}", unit="images") as tell:
        return prepare(track, data_dir, Request(path=source, rehearsal=rehearsal, tell=tell))


@app.command()
def show(
    record: Annotated[Path, typer.Argument(help="A record.json, or the run's folder.")],
    json: Annotated[bool, typer.Option("--json", help="The record as it is stored.")] = False,
) -> None:
    """Print a record for people, or as JSON."""
    from kit.report.show import show as print_record
    from kit.results.store import read_record, record_path

    content = read_record(record)
    if json:
        print(content.model_dump_json(indent=2))
    else:
        print_record(content, record_path(record), Console())


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help=SIDE_HELP)],
    b: Annotated[str, typer.Argument(help="The same: the side that is asked to be faster.")],
    json: Annotated[bool, typer.Option("--json", help="All numbers, for programs.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Also draw the factors: a .png, .svg or .pdf.")] = None,
    profile: Annotated[
        list[Path] | None, typer.Option(help="A side's device, measured (kit calibrate); give one for each.")
    ] = None,
) -> None:
    """Split the speed-up from A to B into factors that multiply to it: algorithm, scale, hardware and so on."""
    from kit.analysis.decomposition import decompose
    from kit.analysis.sides import sides_named
    from kit.hardware.profile import read_profile
    from kit.report.compare import print_comparison
    from kit.report.waterfall import plot_waterfall

    profiles = [read_profile(path) for path in profile or ()]
    comparison = decompose(*sides_named(a, b, profiles))
    if plot is not None:
        plot_waterfall(comparison, plot)
    if json:
        print(comparison.model_dump_json(indent=2))
    else:
        print_comparison(comparison, Console())


@app.command()
def count(
    record: Annotated[Path, typer.Argument(help="A record.json, or the run's folder.")],
    data_dir: DataDir = Path("data"),
    fully_below_s: Annotated[
        float, typer.Option(min=0, help="Of runs that took longer, steps that do the same are counted once.")
    ] = 600,
) -> None:
    """Count the operations of a run whose record still lacks them, by replaying it."""
    from kit.referee.replay import count as replay
    from kit.report.live import Display
    from kit.results.events import Completed
    from kit.results.store import read_record, record_path

    path = record_path(record)
    prepared = _prepared(read_record(path).track.as_track(), data_dir)
    display = Display(Console())
    try:
        completed = replay(path, prepared, display.on_event, fully_below_s=fully_below_s)
        display.on_event(Completed(record=completed, path=path))
    finally:
        display.close()


@app.command()
def reference(
    record: Annotated[Path, typer.Argument(help="A record.json, or the run's folder.")],
    on: Annotated[
        str, typer.Option(help="The reference device: h200, h100, a100, or its profile (kit calibrate), .json.")
    ] = "h200",
    profile: Annotated[Path | None, typer.Option(help="The profile of the device that the run was on.")] = None,
    rerun: Annotated[
        Path | None, typer.Option(help="The run made again on the reference device; max_steps= will do.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What a run would have taken on the reference device, and how far that can be trusted."""
    from kit.analysis.reference import load_reference, opened, reference_time
    from kit.hardware.profile import read_profile
    from kit.report.reference import print_reference
    from kit.results.store import read_record

    time = reference_time(
        read_record(record),
        opened(load_reference(on)),
        own=None if profile is None else read_profile(profile),
        rerun=None if rerun is None else read_record(rerun),
    )
    if json:
        print(time.model_dump_json(indent=2))
    else:
        print_reference(time, Console())


@app.command()
def doctor(
    data_dir: DataDir = Path("data"),
    results_dir: Annotated[Path, typer.Option(help="Where records are to go.")] = Path("results"),
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What works on this machine, what does not, and what to do about it. Exits with 1 where no run works."""
    from kit.doctor.examine import checks, examine
    from kit.doctor.show import print_findings, watching

    with watching(Console(stderr=True)) as begin:
        examination = examine(checks(data_dir, results_dir), begin)
    if json:
        print(examination.model_dump_json(indent=2))
    else:
        print_findings(examination, Console())
    raise typer.Exit(0 if examination.cpu_run_works else 1)


@app.command()
def calibrate(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the profile goes; default profiles/<id>.json.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="An earlier profile of this machine: has it drifted? Then, or if that is unclear, status 1."),
    ] = None,
) -> None:
    """Measure this machine's device profile; under two minutes, on a machine that is left alone."""
    from kit.hardware.drift import check_same_machine, compare
    from kit.hardware.machine import choose_device, describe
    from kit.hardware.profile import read_profile, write_profile
    from kit.report.calibration import print_drift, print_profile
    from kit.report.progress import progress

    console = Console()
    device = choose_device("auto")
    earlier = None
    if against is not None:  # what cannot be compared is said before two minutes have gone
        earlier = read_profile(against)
        check_same_machine(earlier, describe(device))
    with progress(console, "calibrating", unit="s") as tell:
        from kit.hardware.calibration.calibrate import BUDGET_S
        from kit.hardware.calibration.calibrate import calibrate as measure

        profile = measure(device, tell=lambda gone_s: tell(round(gone_s), round(BUDGET_S)))
    path = write_profile(profile, output or Path("profiles") / f"{profile.id}.json")
    print_profile(profile, path, console)
    if earlier is not None:
        drift = compare(earlier, profile)
        print_drift(drift, console)
        raise typer.Exit(0 if drift.verdict == "steady" else 1)


@app.command()
def audit(
    record: Annotated[Path, typer.Argument(help="A record.json, or the run's folder.")],
    data_dir: DataDir = Path("data"),
    windows: Annotated[int, typer.Option(min=1, max=100, help="How many stretches of the run to look at.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="The audit as it is stored.")] = False,
) -> None:
    """Check a count: replay the run under a profiler of all threads. Exit status 0: it agrees, 1: it does not."""
    from kit.referee.audit import audit as replay
    from kit.report.audit import print_audit
    from kit.report.live import Display
    from kit.results.store import read_record, record_path

    path = record_path(record)
    prepared = _prepared(read_record(path).track.as_track(), data_dir)
    display = Display(Console(stderr=json))
    try:
        result, written = replay(path, prepared, display.on_event, windows=windows)
    finally:
        display.close()
    if json:
        print(result.model_dump_json(indent=2))
    else:
        print_audit(result, written, Console())
    raise typer.Exit(0 if result.agrees else 1)


@data.command("list")
def list_data(
    data_dir: DataDir = Path("data"),
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Every track with the state of its data."""
    from kit.catalog import load_track, track_names
    from kit.report.datasets import as_json, print_states, states

    found = states([load_track(name) for name in track_names()], data_dir)
    if json:
        print(as_json(found))
    else:
        print_states(found, Console())


@data.command("prepare")
def prepare_data(
    track: TrackName,
    source: Annotated[
        Path | None, typer.Option(help="The published archive, or the folder that holds it or was unpacked from it.")
    ] = None,
    data_dir: DataDir = Path("data"),
    rehearsal: Annotated[
        bool, typer.Option("--rehearsal", help="Take data in the published format that is not the published data.")
    ] = False,
) -> None:
    """Prepare a track's data; where it was interrupted, the same command goes on."""
    from kit.catalog import load_track

    race = load_track(track)
    if rehearsal:
        race = race.model_copy(update={"rehearsal": True, "dataset_fingerprint": None})
    prepared = _prepared(race, data_dir, source=source, rehearsal=rehearsal)
    print(f"{prepared.root}: {prepared.spec.train_count:,} training and {prepared.spec.test_count:,} test images")
    print(f"fingerprint {prepared.fingerprint}{' (rehearsal)' if prepared.rehearsal else ''}")


@data.command("verify")
def verify_data(track: TrackName, data_dir: DataDir = Path("data")) -> None:
    """Read every prepared file again, and compare with the track; a flipped bit is found and its file named."""
    from kit.catalog import load_track
    from kit.data.prepared import read
    from kit.report.progress import progress

    race = load_track(track)
    prepared = read(data_dir / race.dataset)
    with progress(Console(), "verifying", unit="MB", scale=1e6) as tell:
        prepared.verify(tell=tell)
    refusal = prepared.refusal(race.model_copy(update={"rehearsal": True}))
    if refusal is not None:
        raise KitError(refusal)
    print(f"{prepared.root}: whole, {prepared.total_bytes / 1e6:,.1f} MB, fingerprint {prepared.fingerprint}")


@data.command()
def synthesize(
    kind: Annotated[SyntheticKind, typer.Argument(help="The published format to write in.")],
    folder: Annotated[Path, typer.Argument(help="Where to.")],
    train: Annotated[int, typer.Option(help="Training images.")] = 50_000,
    test: Annotated[int, typer.Option(help="Test images.")] = 10_000,
    classes: Annotated[int, typer.Option(help="Classes, of ImageNet alone.")] = 10,
) -> None:
    """Write drawn characters in a published format, to rehearse with kit data prepare --rehearsal."""
    from kit.data.synthesize import write_cifar10, write_imagenet
    from kit.report.progress import progress

    with progress(Console(), f"writing {kind.value}", unit="images") as tell:
        if kind in (SyntheticKind.CIFAR10, SyntheticKind.CIFAR10_BINARY):
            binary = kind is SyntheticKind.CIFAR10_BINARY
            written = write_cifar10(folder, train=train, test=test, binary=binary, tell=tell)
        else:
            tars = kind is SyntheticKind.IMAGENET_TARS
            written = write_imagenet(folder, classes=classes, train=train, test=test, tars=tars, tell=tell)
    print(written)


def main() -> None:
    """Entry point: a user's mistake is one line and status 2; only a bug shows a traceback."""
    try:
        app()
    except KitError as error:
        print(f"kit: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("kit: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
