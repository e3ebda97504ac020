"""The `kit` command. Each subcommand is a thin call into one package."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from kit.errors import KitError
from kit.version import __version__

if TYPE_CHECKING:
    from kit.configuration import Configuration

app = typer.Typer(
    name="kit",
    help="Time, energy and compute to a fixed accuracy, refereed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


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
    from kit.report.wandb_logger import WandbLogger

    plan = configuration.plan()
    observers: list[Display | WandbLogger] = [Display(Console())]
    logger = configuration.logger
    if logger.type == "wandb":
        config = configuration.model_dump(mode="json", exclude={"logger", "data_dir", "results_dir"})
        observers.append(WandbLogger(logger.project, logger.mode, configuration.results_dir, config))
    try:
        record, _ = referee(plan, observers)
    finally:
        for observer in observers:
            observer.close()
    return record.outcome == "reached"


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
def count(
    record: Annotated[Path, typer.Argument(help="A record.json, or the run's folder.")],
    data_dir: Annotated[Path, typer.Option(help="Where prepared data lies.")] = Path("data"),
) -> None:
    """Count the operations of a run whose record still lacks them, by replaying it."""
    from kit.data.prepared import prepare
    from kit.referee.replay import count as replay
    from kit.report.live import Display
    from kit.results.events import Completed
    from kit.results.store import read_record, record_path

    path = record_path(record)
    prepared = prepare(read_record(path).track.as_track(), data_dir)
    display = Display(Console())
    try:
        completed = replay(path, prepared, display.on_event)
        display.on_event(Completed(record=completed, path=path))
    finally:
        display.close()


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
