"""Draw the study's figures from its tables, each as Vega-Lite, SVG and PNG.

python scripts/plot.py --tables results/tables --output results/figures
"""

from cli.command_line import CommandLine, run

import vl_convert

from knowshift.report.figures.catalogue import FIGURES, draw, specification
from knowshift.runtime.artefacts import whole_file, write_text
from knowshift.runtime.parquet import read_frames


def main() -> None:
    parser = CommandLine(__doc__)
    parser.path("--tables", "directory of tables (Parquet)")
    parser.path("--output", "directory for the figures")
    arguments, _ = parser.read()
    tables = read_frames(arguments.tables)
    for name in FIGURES:
        text = specification(draw(name, tables))
        write_text(arguments.output / f"{name}.vl.json", text)
        write_text(arguments.output / f"{name}.svg", vl_convert.vegalite_to_svg(text))
        with whole_file(arguments.output / f"{name}.png") as partial:
            partial.write_bytes(vl_convert.vegalite_to_png(text, scale=2))


if __name__ == "__main__":
    run(main)
