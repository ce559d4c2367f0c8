r"""Write the report: one HTML file that opens from disk without a network.

    python scripts/report.py --tables results/tables --figures results/figures --page resources/report \
        --output report.html

Every number in it comes from the tables.
"""

from typing import Any

from pydantic import Field

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.section import Section


class Options(Section):
    """What the report shows besides its tables and figures."""

    experiment: dict[str, Any] = Field(default={}, description="Configuration of the experiment.")


def main() -> None:
    """Read the command line, and write the page."""
    parser = CommandLine(__doc__, Options)
    parser.folder("--tables", "Directory of tables (Parquet, and CSV and LaTeX as printed).")
    parser.folder("--figures", "Directory of figures.")
    parser.folder("--page", "Directory of the page: page.html.jinja, its parts, style and script.")
    parser.new_file("--output", "Report to write (HTML).")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.report import page
        from knowshift.runtime.artefacts import write_text
        from knowshift.runtime.parquet import read_frames

    frames = read_frames(arguments.tables)
    html = page.render(frames, arguments.tables, arguments.figures, arguments.page, options.experiment)
    write_text(arguments.output, html)


if __name__ == "__main__":
    run(main)
