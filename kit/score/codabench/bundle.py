"""The bundle: a zip with competition.yaml, pages, the scoring program and the reference data (Codabench, version 2).

Facts: codabench/codabench at commit c7dbc756, src/apps/competitions/unpackers/v2.py and tasks.py. A date is quoted,
since an unquoted one loses its time of day; folders of programs end in a slash; columns sort downwards unless told
otherwise.
"""

import html
import io
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kit.errors import KitError, escaped
from kit.report.units import seconds
from kit.results.record import Record
from kit.score.codabench.settings import SETTINGS_FILE, Settings
from kit.score.seeds import SECRET_BYTES
from kit.version import __version__

DEFAULT_SEEDS = 5
SPARE_S = 600
"""Of the time limit, for everything but runs and their replays."""
COMMAND = "python3 -m kit.score.codabench.program /app/input /app/output"
COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    ("seconds", "Median time to target, s", "asc", 3),
    ("reached", "Runs that reached it, share", "desc", 2),
    ("expected_s", "Expected time to one success, s", "asc", 3),
    ("device_j", "Device energy, J", "asc", 1),
    ("train_teraflop", "Training operations, tera", "asc", 3),
    ("sealed", "Sealed", "desc", 0),
)
"""Key, title, order, decimals. The first one ranks."""
TERMS = """# Terms

* A submission is a pack as `kit pack` writes it; nothing else is scored.
* It is run by the organizers with seeds of their own; all runs count.
* No data but the track's training images, and no weights made from other data.
"""


def write_bundle(record: Record, path: Path, image: str) -> Path:
    """Write the bundle of a competition that scores as this run was made: its track, device, loader and isolation.

    Args:
        record: The run. Of an organizer's run the number of seeds is taken too, else it is 5.
        path: Where the zip goes.
        image: A container image with this version of the kit, for Codabench's workers.

    Raises:
        KitError: There is a file already, or it cannot be written.
    """
    if not image.strip() or any(not char.isprintable() or char.isspace() for char in image):
        raise KitError(f"expected the name of a container image, such as registry/kit:{__version__}, got {image!r}")
    settings = Settings(
        kit_version=__version__,
        track=record.track.as_track(),
        seeds=DEFAULT_SEEDS if record.official is None else record.official.seeds,
        secret=secrets.token_hex(SECRET_BYTES),
        isolation=record.isolation.mode,
        device=record.device.type,
        loader=record.loader,
    )
    files: dict[str, bytes] = {
        "competition.yaml": _yaml(_competition(record, settings, image)),
        "logo.png": _logo(),
        "pages/overview.md": _overview(record, settings).encode(),
        "pages/terms.md": TERMS.encode(),
        "scoring_program/metadata.yaml": _yaml({"command": COMMAND}),
        f"reference_data/{SETTINGS_FILE}": (settings.model_dump_json(indent=2) + "\n").encode(),
    }
    return _write(files, path)


def _competition(record: Record, settings: Settings, image: str) -> dict[str, Any]:
    track = settings.track
    limit_s = round(2 * settings.seeds * (track.limits.setup_s + track.limits.run_s)) + SPARE_S
    return {
        "version": 2,
        "title": f"Time to target: {track.title}",
        "description": f"Track {track.name} version {track.version}, refereed by kit {settings.kit_version}",
        "image": "logo.png",
        "terms": "pages/terms.md",
        "docker_image": image,
        "pages": [{"title": "Overview", "file": "pages/overview.md"}],
        "tasks": [
            {
                "index": 0,
                "name": track.name,
                "description": track.title,
                "scoring_program": "scoring_program/",
                "reference_data": "reference_data/",
            }
        ],
        "phases": [
            {
                "index": 0,
                "name": track.title,
                "start": record.started_at.strftime("%Y-%m-%d %H:%M:%S"),
                "execution_time_limit": limit_s,
                "tasks": [0],
            }
        ],
        "leaderboards": [
            {
                "index": 0,
                "title": track.title,
                "key": "main",
                "submission_rule": "Force_Best",
                "columns": [
                    {
                        "index": index,
                        "key": key,
                        "title": title,
                        "sorting": order,
                        "precision": decimals,
                    }
                    for index, (key, title, order, decimals) in enumerate(COLUMNS)
                ],
            }
        ],
    }


def _overview(record: Record, settings: Settings) -> str:
    track = settings.track
    rules = "".join(f"* {rule}\n" for rule in track.rules)
    bar = ""
    if record.time.to_target_s is not None:
        name, device = (html.escape(escaped(text)) for text in (record.submission.name, record.device.name))
        bar = f"A run of {name} took {seconds(record.time.to_target_s)} on {device}.\n\n"
    return (
        f"# {track.title}\n\nHow fast does training reach {track.metric} of {track.target:.1%} on {track.dataset}? "
        f"The clock runs from the first sight of the data to the predictions that reach the target, and never pauses."
        f"\n\n{bar}Upload a pack (`kit pack FOLDER`). It is run with {settings.seeds} seed"
        f"{'' if settings.seeds == 1 else 's'} of the organizers'; the median counts, and a "
        f"run that misses the target is infinitely long.\n\n{rules}"
    )


def _yaml(content: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120).encode()


def _logo() -> bytes:
    """A clock face; Codabench wants a picture."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((24, 24, 232, 232), outline="black", width=12)
    draw.line((128, 128, 128, 60), fill="black", width=12)
    draw.line((128, 128, 180, 158), fill="black", width=12)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _write(files: Mapping[str, bytes], path: Path) -> Path:
    try:
        with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    except FileExistsError:
        raise KitError(f"{path}: is there already; remove it or give another place with -o") from None
    except OSError as error:
        raise KitError(f"cannot write {path}: {error.strerror}") from error
    return path
