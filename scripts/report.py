"""Write the report: one HTML file that opens from disk without a network.

    python scripts/report.py --tables results/tables --figures results/figures --page resources/report \\
        --output report.html

Every number in it comes from the tables.
"""

from dataclasses import dataclass

from cli.command_line import CommandLine, option, run

from knowshift.report import page
from knowshift.runtime.artefacts import write_text
from knowshift.runtime.parquet import read_frames


@dataclass(frozen=True)
class Options:
    """What the page prints besides tables and figures."""

    experiment: dict = option("the configuration of the experiment, as JSON", {})


def main() -> None:
    """Read the command line, render the page and write it."""
    parser = CommandLine(__doc__, Options)
    parser.path("--tables", "directory of tables (Parquet, and CSV and LaTeX as printed)")
    parser.path("--figures", "directory of figures")
    parser.path("--page", "directory of the page: page.html.jinja, its parts, style and script")
    parser.path("--output", "report to write (HTML)")
    arguments, options = parser.read()
    frames = read_frames(arguments.tables)
    html = page.render(frames, arguments.tables, arguments.figures, arguments.page, options.experiment)
    write_text(arguments.output, html)


if __name__ == "__main__":
    run(main)
