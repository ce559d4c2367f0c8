"""Write the report: one HTML file that opens from disk without a network.

    python scripts/report.py --tables results/tables --figures results/figures --page resources/report --output report.html

Every number in it comes from the tables.
"""

from typing import Any

import jinja2
import vl_convert
from pydantic import BaseModel, Field

from cli.command_line import CommandLine, run
from knowshift.report import page
from knowshift.report.figures.catalogue import FIGURES
from knowshift.report.tables.catalogue import printed
from knowshift.runtime.artefacts import write_text
from knowshift.runtime.parquet import read_frames


class Options(BaseModel):
    """What the report shows besides its tables and figures."""

    experiment: dict[str, Any] = Field(default={}, description="Configuration of the experiment.")


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--tables", "directory of tables (Parquet, and CSV and LaTeX as printed)")
    parser.path("--figures", "directory of figures")
    parser.path("--page", "directory of the page: page.html.jinja, its parts, style and script")
    parser.path("--output", "report to write (HTML)")
    arguments, options = parser.read()
    tables = read_frames(arguments.tables)
    figures = {}
    for number, name in enumerate(FIGURES, 1):
        svg, specification = (
            (arguments.figures / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("svg", "vl.json")
        )
        figures[name] = page.read_figure(name, number, svg, specification)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(arguments.page),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = page.cell_text
    environment.filters["sentence"] = page.sentence
    made = environment.get_template("page.html.jinja").render(
        bundle=vl_convert.javascript_bundle(),
        style=(arguments.page / "report.css").read_text(encoding="utf-8") + page.dark_style(),
        script=(arguments.page / "report.js").read_text(encoding="utf-8"),
        figures=figures,
        tables=page.read_tables(printed(tables), arguments.tables),
        outputs=page.pack_facts(tables["fact_outputs"]),
        experiment=options.experiment,
        **page.summarise(tables),
    )
    write_text(arguments.output, made)


if __name__ == "__main__":
    run(main)
