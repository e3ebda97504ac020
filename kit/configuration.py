"""From the command line's overrides to a plan, through Hydra.

Every submission folder is an option of the group `submission`, and the hyperparameters that its manifest declares
stand under `config`: Hydra itself then checks, sweeps, prints and completes them. What Hydra does not check (types,
ranges, keys that were added with `+`) pydantic does.
"""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra import main as hydra_main
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError

from kit.analysis.reference import Reference
from kit.catalog import shipped
from kit.errors import KitError
from kit.hardware.machine import choose_device
from kit.hardware.turn import WhenBusy
from kit.referee.run import Plan
from kit.results.record import PUBLIC_PAGE, Cost, IsolationMode, latest_date
from kit.slurm.launcher import UNREACHED, known_to_hydra
from kit.slurm.settings import SlurmSettings, read_settings
from kit.submission import manifest
from kit.track import Model, Track

GROUP = "submission"


# ---- what a composed configuration must look like


class DeviceChoice(Model):
    """`device=`."""

    type: Literal["auto", "cpu", "cuda"]
    count: int = Field(ge=1, default=1, strict=True)
    """Ranks that train together, on a GPU each or sharing the CPU."""
    when_busy: WhenBusy = "wait"
    """What to do while another run is timed on the device."""
    profile: Path | None = None
    """What `kit calibrate` measured of it."""
    usd_per_hour: float | None = Field(default=None, ge=0, strict=True)
    price_source: str | None = None
    price_date: str | None = Field(default=None, coerce_numbers_to_str=True)

    def cost(self) -> Cost | None:
        """The price of the machine, or None where none is given.

        Raises:
            KitError: It is given in part, or its source or date is none.
        """
        given = {
            name: value
            for name, value in self.model_dump(exclude={"type", "count", "when_busy", "profile"}).items()
            if value is not None
        }
        if not given:
            return None
        wanted = [name for name in ("usd_per_hour", "price_source", "price_date") if name not in given]
        if wanted:
            raise KitError(
                f"a price needs its source and date: {_settings(given)} without {_settings(wanted)}; give all or none"
            )
        if not re.fullmatch(PUBLIC_PAGE, given["price_source"]):
            raise KitError(
                "device.price_source: expected the address of a page that anybody can open, as https://..., "
                f"got {given['price_source']!r}"
            )
        return Cost(**given | {"price_date": _price_date(given["price_date"])})


class LoggerChoice(Model):
    """`logger=`."""

    type: Literal["none", "wandb"]
    project: str = "kit"
    mode: Literal["offline", "online"] = "offline"


class SubmissionChoice(Model):
    """`submission=`."""

    path: str


class Configuration(Model):
    """All of `kit run`'s configuration."""

    track: Track
    submission: SubmissionChoice
    config: dict[str, Any]
    device: DeviceChoice
    reference: Reference
    logger: LoggerChoice
    seed: int = Field(ge=0, lt=2**32)
    loader: Literal["dali", "torch"]
    isolation: IsolationMode
    count_flops: bool
    max_steps: int | None = Field(ge=1)
    allow_busy_device: bool
    count_fully_below_s: float = Field(ge=0)
    data_dir: Path
    results_dir: Path

    def plan(self) -> Plan:
        """The run that this configuration asks for.

        Raises:
            KitError: The submission does not enter the track, or a hyperparameter is wrong.
        """
        folder = Path(self.submission.path)
        submission = manifest.load(folder)
        for name, value in self.config.items():
            if problem := submission.problem(name, value):
                raise KitError(problem)
        if self.track.name not in submission.tracks:
            raise KitError(
                f"submission '{submission.name}' enters {', '.join(submission.tracks)}, not track '{self.track.name}'"
            )
        return Plan(
            track=self.track,
            submission=manifest.describe(folder, submission, self.config),
            submission_dir=folder,
            seed=self.seed,
            device=choose_device(self.device.type),
            loader=self.loader,
            isolation=self.isolation,
            count_flops=self.count_flops,
            max_steps=self.max_steps,
            allow_busy_device=self.allow_busy_device,
            count_fully_below_s=self.count_fully_below_s,
            results_dir=self.results_dir,
            cost=self.device.cost(),
            ranks=self.device.count,
            when_busy=self.device.when_busy,
        )


def _settings(names: Iterable[str]) -> str:
    return ", ".join(f"device.{name}" for name in names)


def _price_date(text: str) -> date:
    try:
        day = date.fromisoformat(text if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else "")
    except ValueError:
        raise KitError(f"device.price_date: expected a day as 2026-11-24, got {text!r}") from None
    if day > latest_date(datetime.now(UTC)):
        raise KitError(f"device.price_date: expected the day on which the price was seen, got {text}, a day to come")
    return day


# ---- where things lie


def submission_roots() -> list[Path]:
    """Where submissions are looked for by name: here first, then the baselines that ship with the kit."""
    return [Path("submissions"), Path("baselines"), shipped("baselines")]


def submission_dir(option: str) -> Path | None:
    """The folder that `submission=option` means: a path from here, or a shipped baseline."""
    option = option.removesuffix(".yaml")
    for folder in (Path(option), shipped("baselines").parent / option):
        if (folder / manifest.MANIFEST_FILE).is_file():
            return folder
    return None


# ---- Hydra


class SubmissionSource(ConfigSource):
    """Gives Hydra one configuration per submission folder."""

    @staticmethod
    def scheme() -> str:
        """URL scheme of the search path entry."""
        return "kit-submissions"

    def available(self) -> bool:
        """Always."""
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        """The manifest's hyperparameters, and where the folder is."""
        folder = self._folder(config_path)
        if folder is None:
            raise ConfigLoadError(f"Config not found: {config_path}")
        content = {GROUP: {"path": str(folder)}, "config": manifest.load(folder).config}
        return ConfigResult(
            config=OmegaConf.create(content),
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header={"package": "_global_"},
        )

    def is_group(self, config_path: str) -> bool:
        """`submission` and the folders of submissions below it."""
        path = config_path.strip("/")
        return path in ("", GROUP) or path in {f"{GROUP}/{root.name}" for root in submission_roots() if root.is_dir()}

    def is_config(self, config_path: str) -> bool:
        """Whether it names a submission."""
        return self._folder(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """For `--help` and completion."""
        path = config_path.strip("/")
        if path == "":
            return [GROUP] if results_filter in (None, ObjectType.GROUP) else []
        if path == GROUP and results_filter in (None, ObjectType.CONFIG):
            return sorted(set(manifest.find(submission_roots())))
        return []

    def _folder(self, config_path: str) -> Path | None:
        prefix = f"{GROUP}/"
        return submission_dir(config_path[len(prefix) :]) if config_path.startswith(prefix) else None


class SubmissionSearchPath(SearchPathPlugin):
    """Appends the source to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra."""
        search_path.append("kit", f"{SubmissionSource.scheme()}://all")


def register() -> None:
    """Make the group `submission` known to Hydra; calling again changes nothing."""
    for plugin in (SubmissionSource, SubmissionSearchPath, known_to_hydra()):
        Plugins.instance().register(plugin)


def run_hydra(arguments: list[str], task: Callable[[Configuration], None]) -> int:
    """Hand the arguments to Hydra, which calls `task` once per run, or has its launcher make the runs elsewhere.

    Returns:
        How many runs that were made elsewhere did not reach their target.

    Raises:
        KitError: A mistake in the arguments, in one line.
    """
    register()
    mistakes: list[KitError] = []
    unreached: list[int] = []

    def composed(config: DictConfig) -> None:
        try:
            task(validate(config))
        except KitError as error:  # kept from Hydra, which would add lines of its own; the other runs of a sweep go on
            mistakes.append(error)

    setattr(composed, UNREACHED, unreached)
    entry = hydra_main(version_base="1.3", config_path=str(shipped("conf").resolve()), config_name="config")(composed)
    # argparse takes all positional arguments in one stretch: options may stand anywhere if they come first here.
    arguments = sorted(arguments, key=lambda argument: "=" in argument and not argument.startswith("-"))
    with _as_program(["kit run", *arguments]), _one_line_errors():
        entry()
    if mistakes:
        raise KitError("; ".join(dict.fromkeys(map(str, mistakes))))
    return len(unreached)


def slurm_settings(overrides: Sequence[str]) -> SlurmSettings:
    """`hydra.launcher` as conf/hydra/launcher/slurm.yaml and the command line have it.

    Raises:
        KitError: A mistake in the overrides.
    """
    register()
    with _one_line_errors(), initialize_config_dir(str(shipped("conf").resolve()), version_base="1.3"):
        composed = compose("config", ["hydra/launcher=slurm", *overrides], return_hydra_config=True)
        content = OmegaConf.to_container(composed.hydra.launcher, resolve=True)
    assert isinstance(content, dict)
    return read_settings({str(name): value for name, value in content.items()})


def validate(config: DictConfig) -> Configuration:
    """Check a composed configuration.

    Raises:
        KitError: The first thing that is wrong with it.
    """
    content = OmegaConf.to_container(config, resolve=True)
    try:
        return Configuration.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise KitError(_no_such_key(where)) from None
        raise KitError(f"{where}: {problem['msg'].lower()}, got {problem['input']!r}") from None


@contextmanager
def _as_program(argv: list[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and prints a traceback's remains itself unless told to raise."""
    before, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, "1"
    try:
        yield
    finally:
        sys.argv = before
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise KitError(_in_one_line(error)) from error


def _in_one_line(error: Exception) -> str:
    text = str(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        return _no_such_key(match[1])
    if match := re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text):
        return _no_such_key(match[2])
    if match := re.search(
        r"Could not find '([^/]+)/(.+?)'\s+Available options in '[^']+':(.*?)(Config search path|$)", text, re.DOTALL
    ):
        options = ", ".join(match[3].split())
        return f"there is no {match[1]} '{match[2]}'; available: {options}"
    if match := re.search(r"In '[^']+': Could not find '(submission)/(.+?)'", text):
        expected = f"a folder with {manifest.MANIFEST_FILE} and {manifest.SOURCE_FILE}"
        return f"there is no submission '{match[2]}': expected {expected}"
    return " ".join(text.split())


def _no_such_key(key: str) -> str:
    known = ["track", "submission", "device", "reference", "logger", *Configuration.model_fields]
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "; kit run --cfg job shows what there is"
    return f"there is nothing called '{key}' to set{hint}"


def complete(words: list[str], incomplete: str) -> list[str]:
    """What the shell may offer for the next override."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    register()
    search_path = create_config_search_path(f"file://{shipped('conf').resolve()}")
    plugin = DefaultCompletionPlugin(ConfigLoaderImpl(config_search_path=search_path))
    return plugin._query("config", " ".join([*words, incomplete]))
