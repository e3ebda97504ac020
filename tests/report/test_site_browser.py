"""The site in a browser: it draws, sorts and filters, asks nobody for anything, and runs nothing of a stranger's."""

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
from profiles import make_profile
from pydantic import BaseModel, ValidationError
from site_results import EXAMPLE, gpu_entry, write_results, write_showcase

from kit.hardware.profile import Profile, write_profile
from kit.report.site.build import build_site
from kit.results.record import Record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page, Request

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
PATIENCE_MS = 120_000
PAYLOAD = (
    "x\"'><script>window.hacked=1</script></script></style><img src=x onerror=window.hacked=1>"
    "<a href=\"javascript:window.hacked=1\" onmouseover='window.hacked=1'>%{x}{{7*7}}</a>"
    "<svg/onload=window.hacked=1>--accent\N{RIGHT-TO-LEFT OVERRIDE}\N{LEFT-TO-RIGHT ISOLATE}\x1b[2J\x00\u2028"
)

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's Chromium: apt-get install chromium"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the shipped example."""
    site = tmp_path_factory.mktemp("example") / "site"
    build_site(EXAMPLE, site)
    return site


@pytest.fixture(scope="module")
def showcase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of entries with energies, a trace and a device profile."""
    folder = tmp_path_factory.mktemp("showcase")
    build_site(write_showcase(folder / "results", [make_profile()]), folder / "site")
    return folder / "site"


@dataclass
class Seen:
    """What a browser did that a reader should never notice."""

    troubles: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def dialog(self, dialog: "Dialog") -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def failed(self, request: "Request") -> None:
        if request.failure != "net::ERR_ABORTED":  # the reader went on before a script had come
            self.troubles.append(f"failed: {request.url}: {request.failure}")


@contextmanager
def opened(browser: "Browser", address: str | None = None, **how: Any) -> Iterator[tuple["Page", Seen]]:
    """A page in a context of its own; where to go first, if it is known."""
    context = browser.new_context(**({"viewport": DESK} | how))
    context.set_default_timeout(PATIENCE_MS)
    seen = Seen()
    page = context.new_page()
    page.on("console", lambda message: seen.troubles.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.troubles.append(f"error: {error}"))
    page.on("dialog", seen.dialog)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("requestfailed", seen.failed)
    try:
        if address is not None:
            page.goto(address)
        yield page, seen
    finally:
        context.close()


def draw_all(page: "Page") -> int:
    """Scroll every plot into view, and wait until it is drawn."""
    canvases = page.locator(".canvas")
    for index in range(canvases.count()):
        canvases.nth(index).scroll_into_view_if_needed()
        page.wait_for_function("index => document.querySelectorAll('.canvas')[index].dataset.drawn", arg=index)
    return canvases.count()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A web server of a folder, at a free port of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def column(page: "Page", table: str, number: int) -> list[str]:
    """The first lines of a column's cells that are shown."""
    rows = page.locator(f"{table} tbody tr:visible > *:nth-child({number})")
    return [text.strip().split("\n")[0] for text in rows.all_inner_texts()]


# ---- it works


def test_the_example_opens_from_files_and_from_below_any_address(browser: "Browser", example: Path) -> None:
    pages = sorted(path.relative_to(example).as_posix() for path in example.rglob("*.html"))
    with served(example.parent) as address:
        for base, some in ((example.as_uri() + "/", pages), (address + "site/", ["index.html", "tracks/digits.html"])):
            with opened(browser) as (page, seen):
                for name in some:
                    page.goto(base + name)
                    plots = draw_all(page)
                    assert page.locator(".canvas .main-svg").count() >= plots
                    assert plots > 0 or not name.startswith(("tracks/", "entries/"))
                    assert seen.troubles == [], name
                assert [url for url in seen.requests if not url.startswith((base, "data:", "blob:"))] == []


def test_links_lead_from_the_index_to_an_entry_and_back(browser: "Browser", example: Path) -> None:
    with opened(browser, (example / "index.html").as_uri()) as (page, seen):
        page.get_by_role("link", name="digits", exact=True).click()
        assert page.get_by_role("heading", level=1).inner_text() == "digits"
        page.get_by_role("link", name="digits_mlp", exact=True).first.click()
        assert page.get_by_role("heading", level=1).inner_text() == "digits_mlp"
        assert "class Net" in page.locator("details.source pre").first.inner_text()
        page.get_by_role("link", name="Tracks").first.click()
        assert page.url == (example / "index.html").as_uri()
        assert seen.troubles == []


def test_a_column_sorts_up_and_down_with_what_is_missing_last(browser: "Browser", showcase: Path) -> None:
    with opened(browser, (showcase / "tracks/made.html").as_uri()) as (page, _):
        table = "#machine-1-table"
        button = page.get_by_role("button", name="Energy")
        heading = page.locator(f"{table} thead th", has=button)
        button.click()
        assert heading.get_attribute("aria-sort") == "ascending"
        assert column(page, table, 2) == ["frugal", "hasty", "wide", "made", "hopeless"]
        button.click()
        assert heading.get_attribute("aria-sort") == "descending"
        assert column(page, table, 2) == ["hopeless", "made", "wide", "hasty", "frugal"]
        assert page.locator("[aria-sort]").count() == 1
        page.get_by_role("button", name="Algorithmic efficiency").click()
        assert column(page, table, 2)[-1] == "hopeless"


def test_a_table_sorts_by_keyboard_alone(browser: "Browser", showcase: Path) -> None:
    with opened(browser, (showcase / "tracks/made.html").as_uri()) as (page, _):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim()") == "Submission":
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        page.keyboard.press("Enter")
        assert column(page, "#machine-1-table", 2) == ["frugal", "hasty", "hopeless", "made", "wide"]
        page.keyboard.press("Space")
        assert column(page, "#machine-1-table", 2) == ["wide", "made", "hopeless", "hasty", "frugal"]


def test_a_filter_hides_rows_and_tells_how_many_are_left(browser: "Browser", showcase: Path) -> None:
    with opened(browser, (showcase / "tracks/made.html").as_uri()) as (page, _):
        search = page.get_by_label("Filter entries")
        search.fill("HAST")
        assert column(page, "#machine-1-table", 2) == ["hasty"]
        assert page.locator(".filter output").inner_text() == "1 of 5"
        search.fill("")
        assert len(column(page, "#machine-1-table", 2)) == 5


def test_a_waterfall_and_a_power_trace_are_drawn_where_there_are_some(browser: "Browser", showcase: Path) -> None:
    (path,) = (showcase / "entries").glob("wide-*.html")
    with opened(browser, path.as_uri()) as (page, seen):
        draw_all(page)
        for plot in ("curves", "waterfall", "operators", "power"):
            assert page.locator(f"#{plot} .main-svg").count() > 0
        bars = page.locator("#waterfall .bars path").count()
        assert bars == page.locator("#waterfall details tbody tr:not(:has(.depth1))").count() + 1
        assert seen.troubles == []


# ---- for everybody


def test_dark_mode_changes_pages_and_plots_alike(browser: "Browser", showcase: Path) -> None:
    look = """() => [getComputedStyle(document.body).backgroundColor,
        document.querySelector('.main-svg .xtick text').style.fill,
        document.querySelector('.scatterlayer .trace path.js-line').style.stroke]"""
    with opened(browser, (showcase / "tracks/made.html").as_uri(), color_scheme="light") as (page, seen):
        draw_all(page)
        light = page.evaluate(look)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"light => JSON.stringify(({look})()) !== JSON.stringify(light)", arg=light)
        page.wait_for_function(f"light => ({look})().every((colour, index) => colour !== light[index])", arg=light)
        assert seen.troubles == []


def test_no_page_is_wider_than_a_phone(browser: "Browser", showcase: Path) -> None:
    with opened(browser, viewport=PHONE) as (page, _):
        for path in kinds(showcase):
            page.goto(path.as_uri())
            draw_all(page)
            wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], path.name


def kinds(site: Path) -> list[Path]:
    """One page of each kind."""
    patterns = (
        "index.html",
        "tracks/*.html",
        "entries/wide-*.html",
        "devices/index.html",
        "devices/2*.html",
        "*[st].html",
    )
    return list(dict.fromkeys(path for pattern in patterns for path in sorted(site.glob(pattern))))


NAMELESS = """() => [...document.querySelectorAll("a, button, input, summary, [role], [tabindex='0'], table, nav")]
  .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim()
    || document.getElementById(element.getAttribute("aria-labelledby"))?.textContent.trim()
    || element.labels?.[0]?.textContent.trim()))
  .map((element) => element.outerHTML.slice(0, 200))"""
"""What can be operated or jumped to, and has no name that a screen reader could say."""
CONTRAST = """() => {
  const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const channel = (value) => linear(value / 255);
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const seen = walker.currentNode.data.trim() && element.checkVisibility();
    if (!seen || element.closest("svg, script, .skip")) continue;
    const pair = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${walker.currentNode.data.trim().slice(0, 40)}`);
  }
  return found;
}"""
"""Texts of less contrast than WCAG 2.2 asks of small ones (1.4.3, level AA)."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(browser: "Browser", showcase: Path, scheme: str) -> None:
    with opened(browser, color_scheme=scheme) as (page, _):
        for path in kinds(showcase):
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            assert page.evaluate(CONTRAST) == [], path.name


def test_everything_that_can_be_operated_has_a_name(browser: "Browser", showcase: Path) -> None:
    with opened(browser) as (page, _):
        for path in kinds(showcase):
            page.goto(path.as_uri())
            assert page.evaluate(NAMELESS) == [], path.name


def test_a_page_without_scripts_has_its_tables(browser: "Browser", showcase: Path) -> None:
    with opened(browser, (showcase / "tracks/made.html").as_uri(), java_script_enabled=False) as (page, _):
        assert page.get_by_role("link", name="frugal", exact=True).is_visible()
        assert not page.locator(".filter").first.is_visible()


# ---- and for nobody else


def poisoned(model: BaseModel) -> Any:
    """The same with somebody's words in every text that may hold any."""
    kind = type(model)
    content = json.loads(model.model_dump_json())

    def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        if isinstance(value, str) or value is None:
            yield path
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from places(item, (*path, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from places(item, (*path, index))

    taken = 0
    for path in list(places(content)):
        *way, last = path
        holder = content
        for step in way:
            holder = holder[step]
        before = holder[last]
        holder[last] = f"{PAYLOAD}{taken}"
        try:
            kind.model_validate_json(json.dumps(content))
            taken += 1
        except ValidationError:
            holder[last] = before
    assert taken > 10
    return kind.model_validate_json(json.dumps(content))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of results in which every text is an attack."""
    folder = tmp_path_factory.mktemp("hostile")
    baseline = PurePosixPath(f"{PAYLOAD}0")
    names = {"one": baseline.name, "two": f"{PAYLOAD}1"}
    records = [
        *gpu_entry("one", 2.0, 3.0, watts=10, flops=1e9),
        *gpu_entry("two", 4.0, 3.0, None, watts=20, flops=2e9, traceback="x"),
    ]
    evil: list[Record] = []
    for number, record in enumerate(records):
        bad, name = poisoned(record), record.submission.name
        config = {PAYLOAD: PAYLOAD, "--accent": "=1+1", "of": name}
        submission = bad.submission.model_copy(update={"config": config, "name": names[name]})
        track = bad.track.model_copy(update={"baseline": str(baseline)})
        evil.append(bad.model_copy(update={"id": f"{PAYLOAD}{number}", "submission": submission, "track": track}))
    source = {
        "submission.py": f"x = '''{PAYLOAD}'''\n# {PAYLOAD}\n".encode(),
        'a"><img src=x onerror=window.hacked=1>.py': PAYLOAD.encode(),
        "notes.json": json.dumps({PAYLOAD: PAYLOAD}).encode(),
        "conf.yaml": f"{PAYLOAD}: {PAYLOAD}".encode(),
    }
    results = write_results(folder / "results", evil, source)
    bad_name = results / '<img src=x onerror="window.hacked=1">\N{RIGHT-TO-LEFT OVERRIDE}'
    bad_name.mkdir()
    (bad_name / "record.json").write_text(json.dumps({"schema_version": 1, PAYLOAD: PAYLOAD}))
    honest = make_profile(measured_at=datetime(2026, 11, 24, tzinfo=UTC))
    bad_profile: Profile = poisoned(honest)
    write_profile(bad_profile, results / "calibration/x.json")
    build_site(results, folder / "site")
    return folder / "site"


def test_the_attack_is_in_the_pages(hostile: Path) -> None:
    pages = {path.relative_to(hostile).as_posix(): path.read_text() for path in hostile.rglob("*.html")}
    assert len([name for name in pages if name.startswith("entries/")]) == 2
    for name, text in pages.items():
        if name.startswith(("entries/", "tracks/", "devices/2", "left-out")):
            assert "window.hacked" in text, name
    assert any('data-figure="waterfall-figure"' in text for text in pages.values())


def test_nothing_of_a_strangers_runs_or_is_markup(browser: "Browser", hostile: Path) -> None:
    with opened(browser) as (page, seen):
        for path in sorted(hostile.rglob("*.html")):
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            draw_all(page)
            for plot in page.locator(".canvas").all()[:2]:
                plot.hover(force=True)
            assert page.evaluate("window.hacked") is None, path.name
            strange = page.evaluate(
                """() => [...document.querySelectorAll('*')].filter((element) => element.tagName === 'IMG'
                    || /^javascript:/i.test(element.getAttribute('href') ?? element.getAttribute('xlink:href') ?? '')
                    || [...element.attributes].some((attribute) => attribute.name.startsWith('on'))
                    || (element.tagName === 'SCRIPT' && !element.type && !/assets\\/[a-z.]+\\.js$/.test(element.src))
                ).map((element) => element.outerHTML.slice(0, 200))"""
            )
            assert strange == [], path.name
            assert seen.troubles == [], path.name
            assert all(url.startswith((hostile.as_uri(), "data:", "blob:")) for url in seen.requests)


def test_reasons_do_not_say_where_the_results_lie(hostile: Path) -> None:
    assert str(hostile.parent) not in (hostile / "left-out.json").read_text()


def test_no_control_characters_reach_a_page(hostile: Path) -> None:
    for path in hostile.rglob("*"):
        if path.suffix in (".html", ".csv", ".txt"):
            text = path.read_text(encoding="utf-8")
            assert all(char.isprintable() or char in "\n" for char in text), path.name


def test_an_attack_in_a_record_does_not_change_its_files_name(hostile: Path) -> None:
    for path in hostile.rglob("*"):
        name = path.relative_to(hostile).as_posix()
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_./"), name
        assert len(path.name) <= 100
