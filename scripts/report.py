"""Write the report: one HTML file that opens from disk without a network.

    python scripts/report.py --tables results/tables --figures results/figures --template resources/report.html.jinja \
        --output report.html

Every number in it comes from the tables.
"""

from dataclasses import dataclass

import jinja2
import pyarrow.parquet as pq
import vl_convert

from command_line import CommandLine, option, run
from knowshift.artifacts import write_text
from knowshift.figures import FIGURES
from knowshift.reporting import summarise


@dataclass(frozen=True)
class Options:
    experiment: dict = option("the configuration of the experiment, as JSON", {})


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--tables", "directory of tables (Parquet)")
    parser.path("--figures", "directory of figures")
    parser.path("--template", "the page (Jinja)")
    parser.path("--output", "report to write (HTML)")
    arguments, options = parser.read()
    tables = {path.stem: pq.read_table(path).to_pandas() for path in arguments.tables.glob("*.parquet")}
    figures = {
        name: {"specification": read(f"{name}.vl.json"), "svg": read(f"{name}.svg")}
        for read in [lambda file: (arguments.figures / file).read_text(encoding="utf-8")]
        for name in FIGURES
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(arguments.template.read_text(encoding="utf-8")).render(
        bundle=vl_convert.javascript_bundle(), figures=figures, experiment=options.experiment, **summarise(tables)
    )
    write_text(arguments.output, page)


if __name__ == "__main__":
    run(main)
