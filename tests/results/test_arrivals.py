"""Records that come while somebody waits for them."""

from pathlib import Path

from records import make_record

from kit.results.arrivals import Arrivals
from kit.results.store import RECORD_FILE, write_record


def come(results: Path, name: str) -> Path:
    folder = results / name
    folder.mkdir(parents=True)
    write_record(make_record(id=name), folder)
    return folder


def test_what_came_is_seen_once_and_what_was_there_is_no_news(tmp_path: Path) -> None:
    results = tmp_path / "results"
    arrivals = Arrivals(results)
    assert list(arrivals.look()) == []
    first = come(results, "a")
    assert [(folder, record.id) for folder, record in arrivals.look()] == [(first, "a")]
    come(results, "b")
    assert [record.id for _, record in arrivals.look()] == ["b"]
    assert list(arrivals.look()) == []
    assert list(Arrivals(results).look()) == []
    assert [record.id for _, record in Arrivals(results, known={"a"}).look()] == ["b"]


def test_a_run_without_a_record_and_one_that_cannot_be_read_yet_are_seen_when_they_can(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / ".jobs").mkdir()
    (tmp_path / "b" / RECORD_FILE).write_text("{")
    assert list(arrivals.look()) == []
    for name in ("a", "b"):
        write_record(make_record(id=name), tmp_path / name)
    assert [record.id for _, record in arrivals.look()] == ["a", "b"]
