"""The `kit` command. Each subcommand is a thin call into one package."""

import signal
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from kit.errors import KitError
from kit.version import __version__

if TYPE_CHECKING:
    from kit.configuration import Configuration
    from kit.data.prepared import Prepared
    from kit.slurm.settings import SlurmSettings
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
key = typer.Typer(name="key", help="Keys that sign an organizer's records.", no_args_is_help=True)
app.add_typer(key)
importing = typer.Typer(
    name="import",
    help="Results from elsewhere as a table. What cannot be read is told with file and line, and the status is 1.",
    no_args_is_help=True,
)
app.add_typer(importing)

TrackName = Annotated[str, typer.Argument(help="A track's name, or a track file of your own (.yaml).")]
SIDE_HELP = (
    "A record or a run's folder, a folder of one entry's runs, or a published entry such as dawnbench:CIFAR10/..."
)
DataDir = Annotated[Path, typer.Option(help="Where prepared data lies.")]


KeysFile = Annotated[
    Path | None, typer.Option("--keys", help="Whose keys you trust: YAML of name: public key (kit key show).")
]


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

    _end_with_a_record()
    elsewhere = run_hydra([*(overrides or []), *context.args], one)
    raise typer.Exit(1 if missed or elsewhere else 0)


def _end_with_a_record() -> None:
    """Signals of schedulers end a run as Ctrl-C does: SIGTERM at once, SIGUSR2 shortly before a job's time is over."""

    def out_of_time(number: int, frame: object) -> None:
        raise KeyboardInterrupt("the time limit of its job was near")

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGUSR2, out_of_time)


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
    keys: KeysFile = None,
    json: Annotated[bool, typer.Option("--json", help="The record as it is stored.")] = False,
) -> None:
    """Print a record for people, or as JSON."""
    from kit.report.show import show as print_record
    from kit.results.signing import read_keys, verify
    from kit.results.store import read_record, record_path

    names = {} if keys is None else read_keys(keys)
    content, path = read_record(record), record_path(record)
    if json:
        print(content.model_dump_json(indent=2))
    else:
        print_record(content, path, Console(), verify(path.parent), names)


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
    from kit.hardware.machine import choose_device, describe, visible_gpus
    from kit.hardware.profile import read_profile, write_profile
    from kit.hardware.turn import CPU, turn
    from kit.report.calibration import print_drift, print_profile
    from kit.report.progress import progress

    console = Console()
    device = choose_device("auto")
    earlier = None
    if against is not None:  # what cannot be compared is said before two minutes have gone
        earlier = read_profile(against)
        check_same_machine(earlier, describe(device))
    gpus = visible_gpus(1) if device == "cuda" else ()
    with turn(gpus or (CPU,), "wait", console.print), progress(console, "calibrating", unit="s") as tell:
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
def score(
    packs: Annotated[
        list[str],
        typer.Argument(help="Packs (kit pack), or submission folders; and with --launcher hydra.launcher.NAME=VALUE."),
    ],
    track: Annotated[str, typer.Option(help="A track's name, or a track file of your own (.yaml).")],
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each submission; fixed beforehand.")] = 5,
    results: Annotated[Path, typer.Option(help="Where records go, of one scoring alone.")] = Path("results"),
    secret: Annotated[
        Path | None,
        typer.Option(help="What seeds and splits are made from; made on first use; default RESULTS.secret."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Sign every record with it (kit key new).")] = None,
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Also run on training and test images pooled and split anew.")
    ] = False,
    control: Annotated[
        bool, typer.Option("--control", help="Also run with shuffled training labels: must fall to chance.")
    ] = False,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            help="Measure the machine before and after: has it drifted? Twice two minutes.",
            show_default="yes, here alone",
        ),
    ] = None,
    launcher: Annotated[
        Literal["local", "slurm"], typer.Option(help="Runs here, one after another, or as jobs (docs/scale.md).")
    ] = "local",
    plan: Annotated[
        Path | None, typer.Option(help="Make no run: write the file from which kit task makes each.")
    ] = None,
    isolation: Annotated[Literal["sandbox", "process"], typer.Option(help="How trainers are kept apart.")] = "sandbox",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Ranks of each run: a GPU each, or the CPU's cores shared out.")
    ] = 1,
    loader: Annotated[Literal["dali", "torch"], typer.Option(help="Who decodes and augments.")] = "dali",
    price: Annotated[
        Path | None, typer.Option(help="The machine's: usd_per_hour, price_source and price_date, as YAML.")
    ] = None,
    data_dir: DataDir = Path("data"),
) -> None:
    """The organizer's runs: every submission with every secret seed. Where it was interrupted, it goes on.

    Exits with 1 where a submission was refused; the others are scored all the same.
    """
    import tempfile

    from kit.catalog import load_track
    from kit.hardware.machine import choose_device
    from kit.report.progress import working
    from kit.results.record import Split
    from kit.results.signing import load_key
    from kit.score.calibration import calibrate_apart
    from kit.score.entrants import open_entrants
    from kit.score.launched import Places, plan_runs, score_with_slurm
    from kit.score.price import read_price
    from kit.score.race import Scoring
    from kit.score.score import score as make_runs
    from kit.score.seeds import read_or_make_secret
    from kit.slurm.fleet import runs_are

    console, refused, missing = Console(), 0, 0
    overrides = [word for word in packs if word.startswith(("hydra.launcher.", "+hydra.launcher."))]
    submissions = [Path(word) for word in packs if word not in overrides]
    elsewhere = launcher != "local" or plan is not None
    if elsewhere and calibrate:
        raise KitError("--calibrate measures this machine, and the runs are to be made elsewhere; leave it out")

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def refuse(line: str) -> None:
        nonlocal refused
        refused += 1
        say(f"refused: {line}")

    race = load_track(track)
    signing_key = None if key is None else load_key(key)
    cost = None if price is None else read_price(price)
    asked: dict[Split, bool] = {"published": True, "resplit": resplit, "control": control}
    _end_with_a_record()
    prepared = _prepared(race, data_dir)
    secret_file = secret or Path(f"{results}.secret")
    settings = _slurm_settings(launcher, overrides)
    with tempfile.TemporaryDirectory(prefix="kit-") as scratch, working(console) as begin:
        entrants = open_entrants(submissions, race, Path(scratch), refuse)
        scoring = Scoring(
            track=race,
            prepared=prepared,
            seeds=seeds,
            secret=read_or_make_secret(secret_file, results),
            splits=[split for split, wanted in asked.items() if wanted],
            device=choose_device(device) if settings is None else settings.device(device),
            ranks=devices,
            loader=loader,
            isolation=isolation,
            results_dir=results,
            key=signing_key,
            cost=cost,
            calibrate=None if elsewhere or calibrate is False else calibrate_apart,
        )
        places = Places(data_dir, secret_file)
        if plan is not None:
            say(_planned(plan, plan_runs(entrants, scoring, places, plan, say), results))
        elif settings is not None:
            missing = score_with_slurm(entrants, scoring, places, settings, say, begin)
        else:
            make_runs(entrants, scoring, say, begin)
    if missing:
        say(f"{runs_are(missing)} not made yet; the same command goes on")
    elif plan is None:
        say(f"all runs are made; kit board {results} ranks them")
    raise typer.Exit(1 if refused or (missing and settings is not None and settings.wait) else 0)


def _planned(plan: Path, runs: int, results: Path) -> str:
    if not runs:
        return f"there is nothing to plan, and {plan} is not written; kit board {results} ranks what is made"
    return f"{plan}: {runs} {'run' if runs == 1 else 'runs'}; kit task {plan} NUMBER makes each, from 0 to {runs - 1}"


def _slurm_settings(launcher: Literal["local", "slurm"], overrides: list[str]) -> "SlurmSettings | None":
    if launcher == "slurm":
        from kit.configuration import slurm_settings

        return slurm_settings(overrides)
    if overrides:
        raise KitError(f"{overrides[0]}: there is no launcher to set; add --launcher slurm")
    return None


@app.command()
def task(
    plan: Annotated[Path, typer.Argument(help="A plan that kit score --plan wrote.")],
    number: Annotated[int, typer.Argument(min=0, help="Of the run, from 0: $SLURM_ARRAY_TASK_ID.")],
) -> None:
    """Make one run of a plan, as a job of any scheduler; kit score collects and signs. A run that failed: status 1."""
    import tempfile

    from kit.score.task import make_planned

    _end_with_a_record()
    with tempfile.TemporaryDirectory(prefix="kit-") as scratch:
        record = make_planned(plan, number, Path(scratch), _prepared, print)
    assert record.official is not None
    expected = ("reached",) if record.official.split == "published" else ("reached", "missed")
    raise typer.Exit(0 if record.outcome in expected else 1)


@app.command()
def board(
    results: Annotated[Path, typer.Argument(help="A folder of results.")] = Path("results"),
    by: Annotated[
        Literal["time", "reference", "energy", "flops", "cost"],
        typer.Option(help="What to rank by; reference: the time on one device, for entries of all machines."),
    ] = "time",
    reference: Annotated[
        str | None, typer.Option(help="That device: h200 (default), h100, a100, or its profile (kit calibrate), .json.")
    ] = None,
    track: Annotated[str | None, typer.Option(help="Only this track.")] = None,
    device: Annotated[str | None, typer.Option(help="Only machines with this in the device's name.")] = None,
    submission: Annotated[str | None, typer.Option(help="Only submissions of this name.")] = None,
    author: Annotated[str | None, typer.Option(help="Only submissions of this author, among others.")] = None,
    sealed: Annotated[
        bool | None, typer.Option("--sealed/--unsealed", help="Only runs in the sandbox, or not.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only entries whose runs began on this day or later.")
    ] = None,
    keys: KeysFile = None,
    json: Annotated[bool, typer.Option("--json", help="All numbers, for programs.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="One line for each entry, for spreadsheets.")] = False,
) -> None:
    """Rank the official runs of a folder of results; machines are never mixed, but by their times on a reference."""
    from kit.analysis.board import Filters, make_board
    from kit.analysis.material import read_material
    from kit.analysis.on_reference import read_reference_times
    from kit.report.board import print_board
    from kit.report.board_csv import board_csv
    from kit.results.signing import read_keys

    if json and csv:
        raise KitError("expected --json or --csv, got both; give one")
    if reference is not None and by != "reference":
        raise KitError(f"--reference is for --by reference, and this board is by {by}; add that, or leave it out")
    filters = Filters(
        track=track,
        device=device,
        submission=submission,
        author=author,
        sealed=sealed,
        since=None if since is None else since.date(),
    )
    names = {} if keys is None else read_keys(keys)
    material = read_material(results)
    on = read_reference_times(results, reference or "h200", material) if by == "reference" else None
    content = make_board(material, by, filters=filters, names=names, on=on)
    if json:
        print(content.model_dump_json(indent=2))
    elif csv:
        sys.stdout.write(board_csv(content))
    else:
        print_board(content, Console())


@app.command()
def site(
    results: Annotated[Path, typer.Argument(help="A folder of results.")] = Path("results"),
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A new folder, or an earlier site, which is replaced.")
    ] = Path("site"),
    keys: KeysFile = None,
) -> None:
    """Write boards, entries, devices and progress as web pages; they open from the folder and from any web server."""
    from kit.report.site.build import build_site
    from kit.results.signing import read_keys

    built = build_site(results, output, {} if keys is None else read_keys(keys))
    print(
        f"{output / 'index.html'}: {built.tracks} tracks, {built.entries} entries, {built.files} files; "
        f"left out: {built.left_out}"
    )


@app.command("progress")
def show_progress(
    name: Annotated[
        str,
        typer.Argument(
            help="ai-and-efficiency, dawnbench-cifar10 or dawnbench-imagenet; a table with the columns of one of these "
            "(.csv); or a folder of results.",
        ),
    ] = "results",
    by: Annotated[
        Literal["flops", "time", "energy", "cost"] | None,
        typer.Option(help="What a result costs; default flops, and time for DAWNBench.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="All numbers, for programs.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Also draw it beside Moore's law: a .png, .svg or .pdf.")] = None,
) -> None:
    """How fast efficiency grew: the records over time and their doubling time, of results or of published tables."""
    from kit.analysis.histories import history_named
    from kit.report.history import print_history
    from kit.report.history_plot import plot_history

    history = history_named(name, by)
    if plot is not None:
        plot_history(history, plot)
    if json:
        print(history.model_dump_json(indent=2))
    else:
        print_history(history, Console())


@key.command("new")
def new_key(path: Annotated[Path, typer.Argument(help="Where the private key goes.")]) -> None:
    """Make a private key for signing records, and print the public one."""
    from kit.results.signing import new_key as make

    print(make(path))


@key.command("show")
def show_key(path: Annotated[Path, typer.Argument(help="A private key.")]) -> None:
    """Print the public half of a private key, for the readers of boards."""
    from kit.results.signing import load_key, public_key

    print(public_key(load_key(path)))


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


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the submission: lower case letters, digits and _.")],
    base: Annotated[
        str | None, typer.Option("--from", help="A submission to begin from: digits_cnn, or a folder; else a template.")
    ] = None,
) -> None:
    """Write a submission that runs as it is, below submissions/."""
    from datetime import UTC, datetime

    from kit.submission.scaffold import new as write

    folder = write(name, base, datetime.now(UTC).date())
    print(f"{folder}: written; try it with kit run submission={folder}")


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A submission's folder, or a pack.")],
    track: Annotated[
        str | None, typer.Option(help="Try it on this track alone; a name, or a track file of your own (.yaml).")
    ] = None,
    data_dir: DataDir = Path("data"),
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Every problem of a submission in one list, with what to do; then a short run on random data. Errors: status 1."""
    from kit.doctor.show import watching
    from kit.report.check import print_check
    from kit.submission.check import check as look

    with watching(Console(stderr=True)) as tell:
        checked = look(path, track=track, data_dir=data_dir, tell=tell)
    if json:
        print(checked.model_dump_json(indent=2))
    else:
        print_check(checked, Console())
    raise typer.Exit(0 if checked.passed else 1)


@app.command()
def pack(
    path: Annotated[Path, typer.Argument(help="A submission's folder.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the pack goes; default NAME.kit.zip, here.")
    ] = None,
) -> None:
    """Pack a submission into one file: the same bytes on every machine."""
    from kit.submission.pack import pack as write

    written, packed = write(path, output)
    print(f"{written}: {packed.manifest.name}, {len(packed.files)} files, SHA-256 {packed.sha256}")


TableFile = Annotated[
    Path | None, typer.Option("-o", "--output", help="Where the table goes, as CSV; default standard output.")
]
ForPrograms = Annotated[bool, typer.Option("--json", help="Rows, refusals and notes, for programs.")]


@importing.command("dawnbench")
def import_dawnbench(
    folder: Annotated[Path, typer.Argument(help="DAWNBench's entries: <task>/train/*.json and *.tsv.")],
    output: TableFile = None,
    json: ForPrograms = False,
) -> None:
    """DAWNBench's training entries, as submitters really wrote them."""
    from kit.report.imported import tell
    from kit.results.exchange.read_dawnbench import COLUMNS
    from kit.results.exchange.read_dawnbench import import_dawnbench as read

    raise typer.Exit(tell(read(folder), COLUMNS, output, as_json=json))


@importing.command("ai-and-efficiency")
def import_ai_and_efficiency(
    table: Annotated[Path, typer.Argument(help="A table of efficiency_sota.csv's shape.")],
    output: TableFile = None,
    json: ForPrograms = False,
) -> None:
    """The table of AI and Efficiency, with operations as the kit counts them."""
    from kit.report.imported import tell
    from kit.results.published.ai_and_efficiency import COUNTED, efficiency_rows
    from kit.results.table import read_table

    raise typer.Exit(tell(efficiency_rows(read_table(table)), COUNTED, output, as_json=json))


@importing.command("mlperf")
def import_mlperf(
    logs: Annotated[list[Path], typer.Argument(help="Result files of MLPerf Training, or folders of result_*.txt.")],
    output: TableFile = None,
    json: ForPrograms = False,
) -> None:
    """MLPerf Training's result files, of round 0.7 and later."""
    from kit.report.imported import tell
    from kit.results.exchange.read_mlperf import COLUMNS
    from kit.results.exchange.read_mlperf import import_mlperf as read

    raise typer.Exit(tell(read(logs), COLUMNS, output, as_json=json))


@app.command()
def export(
    record: Annotated[Path, typer.Argument(help="A record.json, a run's folder, or a folder of one entry's runs.")],
    format: Annotated[
        Literal["dawnbench", "ai-and-efficiency", "mlperf", "codabench"], typer.Option(help="Of whom to write for.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="A folder for dawnbench, else a file.")],
    image: Annotated[
        str | None, typer.Option(help="Codabench alone: the container image with this kit that workers run.")
    ] = None,
) -> None:
    """Write a record, or an entry's median run, in the format of another competition."""
    from kit.analysis.median_run import record_named
    from kit.score.export import export as write

    for line in write(record_named(record), format, output, image):
        print(line)


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
