"""The report's page: one HTML file with all figures, printed tables and answers, which opens from disk offline."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import vl_convert
from markupsafe import Markup, escape

from knowshift.report.answers_table import TITLES, pack_answers
from knowshift.report.contents import CLAIMS, ELSEWHERE, FIGURES, SECTIONS, TABLES, TASKS
from knowshift.report.figures.theme import CONFIG, DARK
from knowshift.report.frames import Frames
from knowshift.report.page_text import summarise
from knowshift.report.tables.catalogue import printed_tables
from knowshift.report.tables.layout import PrintedTable, TableCell

MAX_EMBEDDED = 64_000  # bytes; larger Parquet files do not go into the page
# How a model that was fine-tuned elsewhere is asked, by its setting `prompt`.
ASKED = {"chat": "with its own chat template", "study": "with the study prompt"}
PARQUET = "application/vnd.apache.parquet"
NUMBER = re.compile(r"^[+−-]?[\d,.]+( ?%)?( .*)?$|^[–—-]?$|^\s*$")


@dataclass(frozen=True)
class PageSection:
    """A section of the page.

    Attributes:
        number: counts from 1.
        title, short_title: see `contents.SectionEntry`.
    """

    number: int
    title: str
    short_title: str


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page.

    Attributes:
        number: counts from 1.
        svg: the picture, which stands there until scripts run.
        specification: its Vega-Lite, as JSON that may stand in a script element.
        width: of the picture in pixels.
        absent: whether the cells that it would show were not run.
        parquet: its data as a data URL; None if they are too large for the page.
    """

    name: str
    number: int
    svg: str
    specification: str
    width: float
    absent: bool
    parquet: str | None


@dataclass(frozen=True)
class PageTable:
    """A printed table on the page.

    Attributes:
        number: counts from 1.
        title, columns, rows: see `PrintedTable`.
        reason: why there are no rows; None if there are rows.
        numeric: for each column, whether it holds numbers, which are aligned to the right.
        csv, latex: the table's files as data URLs.
        parquet: the table of numbers that it is printed from: a data URL or, if `embedded` is false, a relative path.
        embedded: whether the Parquet file is in the page.
    """

    name: str
    number: int
    title: str
    columns: list[str]
    rows: list[list[TableCell]]
    reason: str | None
    numeric: list[bool]
    csv: str
    latex: str
    parquet: str
    embedded: bool


def render(frames: Frames, tables: Path, figures: Path, templates: Path, experiment: Mapping[str, Any]) -> str:
    """Render the page.

    Args:
        frames: the tables of numbers.
        tables: folder of the tables, as Parquet and as printed (CSV and LaTeX).
        figures: folder of the figures.
        templates: folder of page.html.jinja, its parts, style and script.
        experiment: the configuration, which the page prints.

    Returns:
        The page as HTML.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell_text
    environment.filters["sentence"] = sentence
    text = summarise(frames)
    for model in text["elsewhere"]:
        tuned = experiment.get("models", {}).get(model["of"], {}).get("tuned", {}).get(model["name"], {})
        model["asked"] = ASKED.get(prompt := tuned.get("prompt", "chat"), f"with the prompt {prompt}")
    trained = bool(experiment.get("finetuning", True))
    shown = {ELSEWHERE: bool(text["elsewhere"]), TASKS: not frames["task_trade"].empty, CLAIMS: trained}
    left_out = [name for name, there in shown.items() if not there]
    sections = [entry for entry in SECTIONS if entry.name not in left_out]
    return environment.get_template("page.html.jinja").render(
        bundle=vl_convert.javascript_bundle(),  # pyright: ignore[reportCallIssue]  # the stub lacks a default
        style=(templates / "report.css").read_text(encoding="utf-8") + chart_style(),
        script=(templates / "report.js").read_text(encoding="utf-8"),
        sections={
            entry.name: PageSection(number, entry.title, entry.short_title) for number, entry in enumerate(sections, 1)
        },
        figures=read_figures(figures, left_out, every=trained),
        tables=read_tables(printed_tables(frames), tables, left_out, every=trained),
        answers=pack_answers(frames["fact_outputs"]),
        answer_titles=[title for name, title in TITLES.items() if name != "model"],
        experiment=experiment,
        **text,
    )


def read_figures(folder: Path, left_out: Sequence[str] = (), every: bool = True) -> dict[str, PageFigure]:
    """Read the figures from their files NAME.svg and NAME.vl.json, and number them in the order of the report.

    Args:
        folder: of the files.
        left_out: sections whose figures the page does not show.
        every: whether a figure whose cells were not run stands there too, as a line that says so.
    """
    figures: dict[str, PageFigure] = {}
    for entry in FIGURES:
        if entry.section in left_out:
            continue
        svg = (folder / f"{entry.name}.svg").read_text(encoding="utf-8")
        specification = (folder / f"{entry.name}.vl.json").read_text(encoding="utf-8")
        figure = page_figure(entry.name, len(figures) + 1, svg, specification)
        if every or not figure.absent:
            figures[entry.name] = figure
    return figures


def page_figure(name: str, number: int, svg: str, specification: str) -> PageFigure:
    """Make a figure of the page from its SVG and its Vega-Lite."""
    content = json.loads(specification)
    data = max(content.get("datasets", {}).values(), key=len, default=[])
    width = re.search(r'<svg[^>]*\bwidth="([\d.]+)"', svg)
    if width is None:
        raise ValueError(f"the SVG of figure {name} has no width")
    return PageFigure(
        name=name,
        number=number,
        svg=_own_names(svg, name),
        specification=in_script(specification),
        width=float(width[1]),
        absent=bool(content.get("usermeta", {}).get("absent")),
        parquet=_parquet_url(pd.DataFrame(data)),
    )


def _own_names(svg: str, name: str) -> str:
    """Make the ids in an SVG unique on the page, which holds several of them."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)


def in_script(text: str) -> str:
    """Escape JSON so that it may stand inside a script element."""
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")


def data_url(content: bytes, kind: str) -> str:
    """Encode a file as a data URL.

    Args:
        kind: its media type.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _parquet_url(frame: pd.DataFrame) -> str | None:
    """Encode a data frame as a Parquet file in a data URL; None if it is too large for the page."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, compression="zstd")
    content = buffer.getvalue()
    return data_url(content, PARQUET) if len(content) <= MAX_EMBEDDED else None


def read_tables(
    printed: Mapping[str, PrintedTable], folder: Path, left_out: Sequence[str] = (), every: bool = True
) -> dict[str, PageTable]:
    """Make the tables of the page, numbered in the order of the report.

    Args:
        printed: the printed tables by name.
        folder: of their files.
        left_out: sections whose tables the page does not show.
        every: whether a table without rows stands there too, as a line that says why.
    """
    tables: dict[str, PageTable] = {}
    for entry in TABLES:
        table = printed[entry.name]
        if entry.section in left_out or not (every or table.rows):
            continue
        content = (folder / f"{entry.source}.parquet").read_bytes()
        embedded = len(content) <= MAX_EMBEDDED
        tables[entry.name] = PageTable(
            name=entry.name,
            number=len(tables) + 1,
            title=table.title,
            columns=table.columns,
            rows=table.rows,
            reason=None if table.rows else table.reason,
            numeric=numeric_columns(table.rows),
            csv=data_url((folder / f"{entry.name}.csv").read_bytes(), "text/csv"),
            latex=data_url((folder / f"{entry.name}.tex").read_bytes(), "application/x-tex"),
            parquet=data_url(content, PARQUET) if embedded else f"tables/{entry.source}.parquet",
            embedded=embedded,
        )
    return tables


def numeric_columns(rows: Sequence[Sequence[TableCell]]) -> list[bool]:
    """Tell for each column of a printed table whether it holds numbers."""
    return [all(NUMBER.match(cell.text) for cell in column) for column in zip(*rows, strict=True)]


def cell_text(text: str) -> Markup:
    """Return the text of a cell as HTML, with interval and spread in small type so that the number stands out."""
    return Markup(re.sub(r" (\[[^\]]+\](?: ± [\d.]+)?|± [\d.]+)$", r" <small>\1</small>", str(escape(text))))


def sentence(text: str | None) -> str:
    """Return a remark as a sentence: with a capital and a full stop, and with "level 0" for level0."""
    text = re.sub(r"\blevel(\d)", r"level \1", (text or "").strip().rstrip("."))
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def chart_style() -> str:
    """Return the style rules that the page takes from the theme of the charts: its font, and colours of dark pages."""
    rules = [f":root {{ --font: {CONFIG['font']}; }}"]
    rules += [
        f'.chart [fill="{light}"] {{ fill: light-dark({light}, {dark}); }} '
        f'.chart [stroke="{light}"] {{ stroke: light-dark({light}, {dark}); }}'
        for light, dark in DARK.items()
    ]
    return "\n".join(rules)
