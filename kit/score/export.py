"""A record in the format of another competition."""

from pathlib import Path
from typing import Literal

from kit.errors import KitError
from kit.results.exchange.write_ai_and_efficiency import efficiency_csv
from kit.results.exchange.write_dawnbench import dawnbench_files
from kit.results.exchange.write_mlperf import mlperf_log
from kit.results.imported import write_text
from kit.results.record import Record
from kit.score.codabench.bundle import write_bundle

Format = Literal["dawnbench", "ai-and-efficiency", "mlperf", "codabench"]


def export(record: Record, to: Format, output: Path, image: str | None = None) -> list[str]:
    """Write it.

    Args:
        record: A run.
        to: Whose format.
        output: A folder of DAWNBench entries, else a file.
        image: For Codabench: the container image that workers run.

    Returns:
        What was written, and what was left blank, a line each.

    Raises:
        KitError: The record does not fit, lacks something, or cannot be written there.
    """
    _refuse_other_data(record)
    if image is not None and to != "codabench":
        raise KitError(f"--image names the container image of a Codabench competition; {to} has none")
    if to == "dawnbench":
        files = dawnbench_files(record)
        written = [str(path) for path in files.write(output)]
        return [*written, f"left blank, since the record does not know it: {', '.join(files.blank)}"]
    if to == "ai-and-efficiency":
        write_text(output, efficiency_csv(record))
        return [str(output), "left blank: links, and the reduction factor, which takes a baseline"]
    if to == "mlperf":
        write_text(output, mlperf_log(record))
        return [str(output)]
    if image is None:
        raise KitError("Codabench runs the scoring in a container: name an image that has this kit with --image")
    return [str(write_bundle(record, output, image))]


def _refuse_other_data(record: Record) -> None:
    if record.track.rehearsal:
        raise KitError(f"record {record.id}: a rehearsal, on other data than the track's: no result for others")
    if record.official is not None and record.official.split != "published":
        raise KitError(
            f"record {record.id}: a run on the {record.official.split} split, not on the track's own data: no result "
            "for others"
        )
