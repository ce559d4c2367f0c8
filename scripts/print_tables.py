"""Write the report's tables as they are printed, each as CSV and as LaTeX.

python scripts/print_tables.py --tables results/tables --output results/tables
"""

from cli.command_line import CommandLine, run

from knowshift.report.tables.catalogue import printed
from knowshift.runtime.artefacts import write_text
from knowshift.runtime.parquet import read_frames


def main() -> None:
    parser = CommandLine(__doc__)
    parser.path("--tables", "directory of tables (Parquet)")
    parser.path("--output", "directory to write to")
    arguments, _ = parser.read()
    tables = read_frames(arguments.tables)
    for table in printed(tables):
        write_text(arguments.output / f"{table.name}.csv", table.csv())
        write_text(arguments.output / f"{table.name}.tex", table.latex())


if __name__ == "__main__":
    run(main)
