"""Draw the report's figures from its tables, each as Vega-Lite, SVG and PNG.

python scripts/plot.py --tables results/tables --output results/figures
"""

from cli.command_line import CommandLine, quick_imports, run


def main() -> None:
    """Read the command line, draw, and write the figures."""
    parser = CommandLine(__doc__)
    parser.folder("--tables", "Directory of tables (Parquet).")
    parser.new_folder("--output", "Directory for the figures.")
    arguments, _ = parser.read()
    with quick_imports():
        import vl_convert

        from knowshift.report.figures.catalogue import figures
        from knowshift.runtime.artefacts import whole_file, write_text
        from knowshift.runtime.parquet import read_frames

    for name, specification in figures(read_frames(arguments.tables)).items():
        write_text(arguments.output / f"{name}.vl.json", specification)
        write_text(arguments.output / f"{name}.svg", vl_convert.vegalite_to_svg(specification))
        with whole_file(arguments.output / f"{name}.png") as partial:
            partial.write_bytes(vl_convert.vegalite_to_png(specification, scale=2))


if __name__ == "__main__":
    run(main)
