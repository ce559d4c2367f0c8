"""The report in a real browser, with the network off: it draws, filters, saves, and fits phones, dark pages and paper.

Screenshots lie in pytest's folder of temporary files (`--basetemp`), to be looked at. Tables are simulated where their
size is what is tested; those of the tiny experiment are real, and so are those of the default run if it has been made.
"""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import made_up_tables
from knowshift.report import contents
from knowshift.report.answers_table import CHANGES
from knowshift.report.figures.theme import DARK, LEVEL_COLORS
from knowshift.runtime.csv_files import csv_text

REPOSITORY = Path(__file__).parents[2]
FIGURES = [entry.name for entry in contents.FIGURES]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OF_NO_ACCOUNT = "Maximum optimization runs"  # Vega-Lite gives up merging the data sources of a chart of sixty panels
PHONE, SCREEN = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def make_report(folder: Path, grid: made_up_tables.Grid) -> Path:
    """Make the report of simulated tables with the pipeline's own scripts."""
    tables, figures, report = folder / "tables", folder / "figures", folder / "report.html"
    made_up_tables.Tables(grid).write(tables)
    experiment = {
        "facts": {"in_domain": ["city_country"], "out_of_domain": ["symbol_element"]},
        "finetuning": {
            "data": ["level0", "mixed"],
            "sizes": [30, 100],
            "seeds": [1, 2],
            "epochs": 1,
            "learning_rate": 5e-05,
            "batch_size": 8,
            "dtype": "float32",
        },
        "mastery": {
            "templates": 3,
            "samples": 4,
            "temperature": 0.7,
            "max_new_tokens": 8,
            "boundaries": [0.25, 0.5, 0.75],
            "levels_from": "all",
        },
        "divergence": {"top_tokens": 10},
        "evaluation": {"few_shot": 4, "dtype": "float32"},
    }
    for name, arguments in {
        "print_tables": ["--tables", tables, "--output", tables],
        "plot": ["--tables", tables, "--output", figures],
        "report": [
            "--tables",
            tables,
            "--figures",
            figures,
            "--page",
            REPOSITORY / "resources/report",
            "--spec",
            json.dumps({"experiment": experiment}),
            "--output",
            report,
        ],
    }.items():
        command = [sys.executable, str(REPOSITORY / f"scripts/{name}.py"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report about as large as the default run's."""
    return make_report(
        tmp_path_factory.mktemp("default"), made_up_tables.Grid(instruct=True, blocks=("0-9", "10-19", "20-29"))
    )


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A headless Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright drives the browser, and is not installed"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium; as root on Debian, tests/chromium.sh installs it")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=False)
        yield started
        started.close()


@dataclass
class Opened:
    """A page, what it complained of, and what it asked the network for."""

    page: object
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def draw_all(self) -> None:
        """Bring every figure into view and wait until it is interactive."""
        for place in self.page.locator("[data-figure]").all():
            place.scroll_into_view_if_needed()
            name = place.get_attribute("data-figure")
            self.page.wait_for_selector(f'[data-figure="{name}"][data-state]', timeout=20_000)
            assert place.get_attribute("data-state") == "live", f"{name}: {self.complaints}"


@pytest.fixture
def open_page(browser) -> Iterator:
    contexts = []

    def opened(path: Path, viewport: dict = SCREEN, scheme: str = "light") -> Opened:
        context = browser.new_context(
            viewport=viewport, color_scheme=scheme, accept_downloads=True, device_scale_factor=1
        )
        context.set_offline(True)
        contexts.append(context)
        result = Opened(context.new_page())
        result.page.on("pageerror", lambda error: result.complaints.append(str(error)))
        result.page.on(
            "console",
            lambda said: (
                said.type in ("error", "warning")
                and OF_NO_ACCOUNT not in said.text
                and result.complaints.append(said.text)
            ),
        )
        result.page.on("request", lambda request: result.requests.append(request.url))
        result.page.goto(path.as_uri(), wait_until="load")
        return result

    yield opened
    for context in contexts:
        context.close()


def check_whole(opened: Opened, path: Path) -> None:
    """Every chart draws, nothing complains, nothing is asked of the network."""
    opened.draw_all()
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    for place in opened.page.locator("[data-figure]").all():
        marks = place.locator("svg .role-mark path, svg .role-mark line, svg .role-mark rect").count()
        assert marks > 1, place.get_attribute("data-figure")


def width_of(opened: Opened) -> int:
    return opened.page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")


def test_a_report_as_large_as_the_default_one(report: Path, open_page, tmp_path: Path) -> None:
    assert report.stat().st_size <= 5_000_000
    opened = open_page(report)
    opened.page.screenshot(path=tmp_path / "top.png")
    check_whole(opened, report)
    drawn = {place.get_attribute("data-figure") for place in opened.page.locator("[data-figure]").all()}
    assert drawn == set(FIGURES)
    opened.page.screenshot(path=tmp_path / "light.png", full_page=True)
    numbers = [int(text) for text in re.findall(r"Figure (\d+)\.", opened.page.inner_text("main"))]
    assert numbers == list(range(1, len(FIGURES) + 1))


def test_the_csv_that_the_page_saves_holds_no_formula(browser) -> None:
    """The page's own function writes what `csv_text` writes."""
    source = (REPOSITORY / "resources/report/report.js").read_text(encoding="utf-8")
    function = re.search(r"const csvOf = .*?\n};\n", source, re.DOTALL)[0]
    texts = ["=1+1", "+A1", "-x", "@SUM(1)", " =1", "\t=1", "-1.5", "+2", "1e-5", "-", "a=b", 'say "hi", x', ""]
    page = browser.new_page()
    saved = page.evaluate(f"([columns, rows]) => {{ {function} return csvOf(columns, rows); }}", [texts, [texts]])
    assert saved == csv_text([texts, texts])
    numbers = page.evaluate(f"() => {{ {function} return csvOf(['n'], [[-1.5], [1e-7], [null], [true]]); }}")
    assert numbers == "n\n-1.5\n1e-7\n\ntrue\n"
    page.close()


def test_charts_answer_to_the_pointer(report: Path, open_page) -> None:
    opened = open_page(report)
    opened.draw_all()
    page = opened.page
    ribbons = (
        "[...document.querySelectorAll('#figure-flow .mark-area path')].map(path => path.getAttribute('d')).join()"
    )
    whole = page.evaluate(ribbons)
    page.locator("#figure-flow select").select_option("city_state")
    page.wait_for_function(f"{ribbons} !== {whole!r}")
    page.locator("#figure-accuracy_by_size .mark-symbol path").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    told = page.inner_text("#vg-tooltip-element")
    assert "training data" in told and "facts" in told and "%" in told
    assert opened.complaints == []


def test_charts_read_without_scripts(report: Path, browser) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(report.as_uri())
    assert page.locator("[data-figure] > svg").count() == len(FIGURES)
    assert page.locator("[data-figure] > svg").first.bounding_box()["height"] > 100
    page.context.close()


def test_the_table_of_facts_filters(report: Path, open_page) -> None:
    page = open_page(report).page
    page.wait_for_selector('#facts[data-state="live"]')
    rows = pq.read_table(report.parent / "tables/fact_outputs.parquet").to_pandas()
    status, shown = page.locator("[data-status]"), page.locator("#facts tbody tr")

    def counted() -> int:
        return int(status.inner_text().split(" of ")[0].replace(",", ""))

    assert counted() == len(rows) and shown.count() == 20
    assert "<b>exactly</b>" in shown.first.inner_text()  # a question is text, never markup
    page.get_by_role("button", name="Next").click()
    assert "page 2" in status.inner_text()
    page.locator('[data-filter="topic"]').select_option("city_state")
    assert counted() == (rows["topic"] == "city_state").sum() and "page 1" in status.inner_text()
    page.locator('[data-filter="change"]').select_option("right again")
    changes = [
        CHANGES[key]
        for key in zip(rows["before_correct"], rows["after_correct"], rows["restored_correct"], strict=True)
    ]
    both = rows[(rows["topic"] == "city_state") & (pd.Series(changes) == "right again")]
    assert counted() == len(both) > 0
    page.locator("[data-search]").fill("krak")
    page.wait_for_function("document.querySelector('[data-status]').textContent.indexOf('page') > 0")
    page.wait_for_timeout(300)
    text = both[["question", "object", "before", "after", "restored"]].agg("\n".join, axis=1).str.lower()
    assert counted() == text.str.contains("krak").sum() > 0
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV of these rows").click()
    lines = list(csv.reader(io.StringIO(Path(saved.value.path()).read_text())))
    assert len(lines) == counted() + 1 and "topic" in lines[0]
    page.locator("[data-search]").fill("no such words")
    page.wait_for_function("document.querySelector('[data-status]').textContent.startsWith('0 of')")


def save(page, element) -> bytes:
    page.wait_for_timeout(120)  # Chromium drops what a page saves beyond ten files in a second
    with page.expect_download() as saved:
        element.click()
    return Path(saved.value.path()).read_bytes()


def test_what_can_be_saved(report: Path, open_page) -> None:
    opened = open_page(report, scheme="dark")
    check_whole(opened, report)  # all charts are live: none moves a button away any more
    page = opened.page
    for name in FIGURES:
        figure = page.locator(f"#figure-{name}")
        root = ET.fromstring(save(page, figure.get_by_role("button", name="SVG")))
        assert root.tag.endswith("svg") and len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 3
        assert root.find("{http://www.w3.org/2000/svg}rect").get("fill") == "white"
        picture = save(page, figure.get_by_role("button", name="PNG"))
        assert picture.startswith(b"\x89PNG") and len(picture) > 5000
        lines = list(csv.reader(io.StringIO(save(page, figure.get_by_role("button", name="CSV")).decode())))
        assert len(lines) > 2 and len({len(line) for line in lines}) == 1
        columns = pq.read_table(io.BytesIO(save(page, figure.get_by_role("link", name="Parquet")))).column_names
        assert sorted(columns) == sorted(lines[0])
    table = page.locator("#table-accuracy")
    folder = report.parent / "tables"
    assert save(page, table.get_by_role("link", name="CSV")) == (folder / "accuracy.csv").read_bytes()
    assert save(page, table.get_by_role("link", name="LaTeX")) == (folder / "accuracy.tex").read_bytes()
    assert save(page, table.get_by_role("link", name="Parquet")) == (folder / "scores.parquet").read_bytes()


def test_on_a_phone_nothing_scrolls_sideways(report: Path, open_page, tmp_path: Path) -> None:
    opened = open_page(report, PHONE)
    assert width_of(opened) <= PHONE["width"]
    check_whole(opened, report)
    assert width_of(opened) <= PHONE["width"]
    for place in opened.page.locator("[data-figure]").all():
        inside = place.locator("svg").first.bounding_box()
        assert inside["x"] >= 0 and inside["x"] + inside["width"] <= PHONE["width"] + 1, place.get_attribute(
            "data-figure"
        )
    opened.page.screenshot(path=tmp_path / "phone.png", full_page=True)


def test_dark_pages_have_colours_of_their_own(report: Path, open_page, tmp_path: Path) -> None:
    opened = open_page(report, scheme="dark")
    check_whole(opened, report)
    page = opened.page
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 120
    bar = page.locator(f'#figure-mastery [fill="{LEVEL_COLORS[0]}"]').first
    wanted = tuple(int(DARK[LEVEL_COLORS[0]][place : place + 2], 16) for place in (1, 3, 5))
    assert bar.evaluate("mark => getComputedStyle(mark).fill") == f"rgb{wanted}"
    page.screenshot(path=tmp_path / "dark.png", full_page=True)


def test_on_paper(report: Path, open_page, tmp_path: Path) -> None:
    page = open_page(report, scheme="dark").page
    page.pdf(path=tmp_path / "report.pdf", format="A4", prefer_css_page_size=True)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator(".saves").first.is_visible() and not page.locator("#facts").is_visible()
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert sum(map(int, re.findall(r"\d+", ink)[:3])) < 150  # dark ink, whatever the screen was


def test_the_papers_whole_grid_stays_usable(open_page, tmp_path: Path) -> None:
    report = make_report(tmp_path, made_up_tables.PAPER)
    assert report.stat().st_size < 25_000_000
    opened = open_page(report)
    check_whole(opened, report)
    page = opened.page
    page.wait_for_selector('#facts[data-state="live"]', timeout=10_000)
    page.locator('[data-filter="model"]').select_option("llama-2-7b")
    page.locator("[data-search]").fill("springfield")
    page.wait_for_function("!document.querySelector('[data-status]').textContent.startsWith('60,000')")
    page.screenshot(path=tmp_path / "paper.png", full_page=True)


def test_a_run_that_restored_nothing_says_so(open_page, tmp_path: Path) -> None:
    report = make_report(tmp_path, made_up_tables.Grid(kinds=("mixed",), sizes=(30,), seeds=1, restored_sizes=()))
    opened = open_page(report)
    check_whole(opened, report)
    text = opened.page.inner_text("main")
    assert "Nothing of smollm2-135m was restored" in text and "no cell of this experiment has data" in text
    assert opened.page.locator("#figure-restored [data-figure]").count() == 0


def test_the_tiny_run(experiment: Path, open_page, tmp_path: Path) -> None:
    opened = open_page(experiment / "results/report.html")
    check_whole(opened, experiment / "results/report.html")
    opened.page.wait_for_selector('#facts[data-state="live"]')
    rows = pq.read_table(experiment / "results/tables/fact_outputs.parquet")
    assert opened.page.locator("[data-status]").inner_text().startswith(f"{len(rows)} of {len(rows)} rows")
    opened.page.screenshot(path=tmp_path / "tiny.png", full_page=True)


def test_the_default_run(open_page, tmp_path: Path) -> None:
    report = REPOSITORY / "results/report.html"
    if not report.exists():
        pytest.skip("the default experiment has not been run: make run")
    assert report.stat().st_size <= 5_000_000
    opened = open_page(report)
    check_whole(opened, report)
    opened.page.screenshot(path=tmp_path / "light.png", full_page=True)
