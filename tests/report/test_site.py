"""The site as files: what is in it, that links lead somewhere, and that it is written whole or not at all."""

import csv
import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import make_profile
from records import make_entry, make_record
from site_results import EXAMPLE, gpu_entry, write_results, write_showcase
from support import kit

from kit.errors import KitError
from kit.report.csv_text import csv_text
from kit.report.site import build
from kit.report.site.build import build_site
from kit.report.site.figures import label
from kit.report.site.folder import MARK_FILE, whole_folder
from kit.report.site.names import slug, slug_with
from kit.report.site.source import read_source
from kit.results.source import source_sha256


@pytest.fixture(scope="module")
def showcase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of several entries on a GPU, with a device profile."""
    folder = tmp_path_factory.mktemp("showcase")
    build_site(write_showcase(folder / "results", [make_profile()]), folder / "site")
    return folder / "site"


class Page(HTMLParser):
    """What a test asks of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self.links += [value for name in ("href", "src") if (value := found.get(name)) is not None]
        if "id" in found:
            self.ids.append(found["id"] or "")
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- what is in it


def test_every_track_entry_and_device_has_a_page_and_is_linked(showcase: Path) -> None:
    names = {path.relative_to(showcase).as_posix() for path in pages(showcase)}
    assert {"index.html", "tracks/made.html", "progress.html", "devices/index.html", "left-out.html"} <= names
    entries = [name for name in names if name.startswith("entries/")]
    assert len(entries) == 5
    assert set(entries) <= {f"entries/{Path(link).name}" for link in Page(showcase / "tracks/made.html").links}
    (device,) = (name for name in names if name.startswith("devices/2"))
    assert Path(device).name in Page(showcase / "devices/index.html").links


def test_links_are_relative_and_lead_to_files_of_the_site(showcase: Path) -> None:
    for path in pages(showcase):
        page = Page(path)
        assert len(page.ids) == len(set(page.ids)), path
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", link
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert not link.startswith("/"), link
            assert target.is_file(), f"{path.name}: {link}"
            assert target.is_relative_to(showcase)
            if parts.fragment:
                assert parts.fragment in Page(target).ids, link


def test_a_board_of_the_site_is_the_board_of_the_command(showcase: Path, tmp_path: Path) -> None:
    results = write_showcase(tmp_path / "results")
    printed = kit("board", str(results), "--csv").stdout
    assert (showcase / "tracks/made.csv").read_text() == printed
    (place,) = (row for row in csv.DictReader(printed.splitlines()) if row["submission"] == "wide")
    assert float(place["time_s"]) == 4.4
    text = (showcase / "tracks/made.html").read_text()
    assert "4.400 s" in text
    assert "4.100 s to 4.900 s" in text


def test_every_run_can_be_downloaded_as_it_was_recorded(showcase: Path, tmp_path: Path) -> None:
    results = write_showcase(tmp_path / "results")
    (page,) = (showcase / "entries").glob("wide-*.html")
    recorded = json.loads((results / "run-0003/record.json").read_text())
    assert json.loads(page.with_name(f"{page.stem}-run1.json").read_text()) == recorded
    with page.with_name(f"{page.stem}-verdicts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 8
    assert float(rows[7]["elapsed_s"]) == recorded["time"]["to_target_s"]


def test_a_waterfall_multiplies_from_the_baseline_to_the_entry(showcase: Path) -> None:
    (page,) = (showcase / "entries").glob("frugal-*-factors.json")
    comparison = json.loads(page.read_text())
    product = 1.0
    for factor in comparison["factors"]:
        product *= factor["ratio"]
    assert product == pytest.approx(9.6 / 6.2)
    assert comparison["speedup"]["ratio"] == pytest.approx(product)


def test_plots_have_their_numbers_as_a_table_beside_them(showcase: Path) -> None:
    for path in pages(showcase):
        page = Page(path)
        canvases = [attributes for attributes in page.named("div") if "data-figure" in attributes]
        for canvas in canvases:
            assert canvas["role"] == "group"
            assert canvas["aria-labelledby"] in page.ids
            assert canvas["data-figure"] in page.ids
        if canvases:
            assert page.named("table")


def test_pages_have_landmarks_and_headings_in_order(showcase: Path) -> None:
    for path in pages(showcase):
        page = Page(path)
        tags = [tag for tag, _ in page.tags]
        for landmark in ("header", "nav", "main", "footer"):
            assert landmark in tags
        assert page.named("html") == [{"lang": "en"}]
        assert page.headings[0] == 1
        assert page.headings.count(1) == 1
        for before, after in zip(page.headings, page.headings[1:], strict=False):
            assert after <= before + 1, f"{path.name}: h{before} then h{after}"
        assert tags.count("table") == tags.count("caption")
        for heading in page.named("th"):
            assert heading.get("scope") in ("col", "row")
        labels = {attributes["for"] for attributes in page.named("label")}
        assert {attributes["id"] for attributes in page.named("input")} <= labels


def test_pages_let_the_browser_run_nothing_but_the_sites_own_scripts(showcase: Path) -> None:
    for path in pages(showcase):
        page = Page(path)
        (policy,) = (tag["content"] for tag in page.named("meta") if tag.get("http-equiv") == "Content-Security-Policy")
        assert "default-src 'none'; script-src 'self';" in (policy or "")
        for script in page.named("script"):
            assert script.get("type") == "application/json" or str(script["src"]).endswith(".js")


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    results = write_showcase(tmp_path / "results", [make_profile()])
    assert kit("site", str(results), "-o", str(tmp_path / "one")).returncode == 0
    os.makedirs(tmp_path / "elsewhere")
    shutil.copytree(results, tmp_path / "elsewhere/copy")
    build_site(tmp_path / "elsewhere/copy", tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_what_was_left_out_stands_on_its_page_with_the_reason(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", [*make_entry(1.0, 2.0), make_record(id="mine")])
    (results / "broken").mkdir()
    (results / "broken/record.json").write_text("{")
    build_site(results, tmp_path / "site")
    text = (tmp_path / "site/left-out.html").read_text()
    assert "broken/record.json" in text
    assert "not a record" in text
    assert "is 1 run of no scoring" in text
    assert json.loads((tmp_path / "site/left-out.json").read_text())[0]["file"] == "broken/record.json"


def test_results_without_an_official_run_make_a_site_that_says_so(tmp_path: Path) -> None:
    build_site(write_results(tmp_path / "results", [make_record()]), tmp_path / "site")
    assert "There are no official runs in these results" in (tmp_path / "site/index.html").read_text()


def test_an_entry_that_never_reached_its_target_has_a_page(showcase: Path) -> None:
    (page,) = (showcase / "entries").glob("hopeless-*.html")
    text = page.read_text()
    assert "No comparison with the baseline: hopeless: 3 of 3 runs did not reach the target" in text
    assert "0 of 3" in text


def test_a_page_draws_some_entries_and_says_of_how_many(tmp_path: Path) -> None:
    records = [record for number in range(10) for record in make_entry(1.0 + number, name=f"entry{number}")]
    build_site(write_results(tmp_path / "results", records), tmp_path / "site")
    text = (tmp_path / "site/tracks/made.html").read_text()
    assert "of the best 8 of 10 entries" in text
    assert "entry9" in text


def test_the_shipped_example_makes_a_site(tmp_path: Path) -> None:
    built = build_site(EXAMPLE, tmp_path / "site")
    assert (built.tracks, built.entries, built.left_out) == (1, 3, 0)
    names = "digits_cnn", "digits_mlp", "template"
    text = (tmp_path / "site/tracks/digits.html").read_text()
    assert all(name in text for name in names)
    for page in (tmp_path / "site/entries").glob("*.html"):
        assert "these files are not those that ran" not in page.read_text()


# ---- names and texts


@given(st.text(max_size=300), st.text(max_size=300))
def test_pages_have_safe_names_and_no_two_of_the_same(one: str, other: str) -> None:
    for name in (slug(one), slug_with(one, one)):
        assert name
        assert len(name) <= 64
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    if one != other:
        assert slug(one) != slug(other)
        assert slug_with(one, one) != slug_with(other, other)


@given(st.text(max_size=100))
def test_a_label_is_no_markup_to_plotly(text: str) -> None:
    shown = label(text)
    assert "<" not in shown
    assert ">" not in shown
    assert all(char.isprintable() for char in shown)


def test_a_spreadsheet_computes_nothing_of_a_strangers(tmp_path: Path) -> None:
    record = make_record().submission.model_copy(update={"name": "=1+1"})
    build_site(write_results(tmp_path / "r", make_entry(1.0, submission=record, reason='@x"')), tmp_path / "site")
    for path in (tmp_path / "site").rglob("*.csv"):
        with path.open(newline="") as file:
            assert not [cell for row in csv.reader(file) for cell in row if cell.startswith(("=", "@"))], path
    assert csv_text(("a",), [("-2",), (-2.0,), (None,)]) == 'a\n\'-2\n-2.0\n""\n'


# ---- the source


def test_a_source_that_is_not_what_ran_is_shown_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission/submission.py").write_text("x = '<b>'\n")
    sha256 = source_sha256(tmp_path / "submission")
    source = read_source(tmp_path, sha256)
    assert source.warning is None
    assert "&lt;b&gt;" in str(source.files[0].html)
    (tmp_path / "submission/submission.py").write_text("x = 2\n")
    assert "not those that ran" in (read_source(tmp_path, sha256).warning or "")


def test_links_pipes_and_binary_files_of_a_source_are_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "submission.py").write_text("x = 1\n")
    (folder / "weights.bin").write_bytes(b"\xff\xfe\x00")
    (folder / "passwords.txt").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.py")
    source = read_source(tmp_path, "0" * 64)
    assert {file.name: file.html is None for file in source.files} == {"submission.py": False, "weights.bin": True}
    assert "not a plain file" in (source.warning or "")
    assert read_source(tmp_path / "nowhere", "0" * 64).warning is not None


# ---- the folder


def test_a_site_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    build_site(write_results(tmp_path / "one", make_entry(1.0, name="first")), tmp_path / "site")
    build_site(write_results(tmp_path / "two", make_entry(1.0, name="second")), tmp_path / "site")
    names = [path.name for path in (tmp_path / "site/entries").glob("*.html")]
    assert [name.split("-")[0] for name in names] == ["second"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "site", "two"]


def test_a_folder_that_is_no_site_is_not_replaced(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", make_entry(1.0))
    for output, message in ((results, "kit site did not write"), (results / "run-0000/record.json", "this is a file")):
        done = kit("site", str(results), "-o", str(output))
        assert done.returncode == 2
        assert message in done.stderr
        assert (results / "run-0000/record.json").is_file()


def test_a_file_of_the_users_in_a_site_is_not_lost(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", make_entry(1.0))
    build_site(results, tmp_path / "site")
    (tmp_path / "site/CNAME").write_text("example.org")
    with pytest.raises(KitError, match="CNAME would be lost"):
        build_site(results, tmp_path / "site")
    assert (tmp_path / "site/CNAME").read_text() == "example.org"
    assert (tmp_path / "site/index.html").is_file()


def test_a_site_that_fails_leaves_the_earlier_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = write_results(tmp_path / "results", make_entry(1.0))
    build_site(results, tmp_path / "site")
    before = files(tmp_path / "site")

    def fail(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(build, "_write_assets", fail)
    with pytest.raises(RuntimeError):
        build_site(results, tmp_path / "site")
    with pytest.raises(RuntimeError):
        build_site(results, tmp_path / "new")
    assert files(tmp_path / "site") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "site"]


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../b", "", "a//b", "."])
def test_nothing_is_written_outside_of_a_site(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a name below the site"), whole_folder(tmp_path / "site") as folder:
        folder.write(name, "x")
    assert list(tmp_path.iterdir()) == []


def test_two_files_whose_names_differ_in_case_are_an_error(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "site") as folder:
        folder.write("a.html", "x")
        with pytest.raises(ValueError, match="case does not count"):
            folder.write("A.html", "x")


def test_a_site_lists_its_files(showcase: Path) -> None:
    listed = (showcase / MARK_FILE).read_text().splitlines()[1:]
    assert sorted([*listed, MARK_FILE]) == sorted(files(showcase))


def test_entries_of_names_that_a_file_system_may_confuse_have_pages_of_their_own(tmp_path: Path) -> None:
    names = ["made", "MADE", "Made", "../made", "..", "con", "made" * 200, "\N{CYRILLIC SMALL LETTER EM}ade"]
    records = [record for name in names for record in gpu_entry(name, 1.0, watts=1, flops=1e9)]
    unique = [record.model_copy(update={"id": f"run-{number}"}) for number, record in enumerate(records)]
    build_site(write_results(tmp_path / "results", unique), tmp_path / "site")
    stems = [path.stem.lower() for path in (tmp_path / "site/entries").glob("*.html")]
    assert len(set(stems)) == len(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "site"]
