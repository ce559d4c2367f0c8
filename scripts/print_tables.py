"""Print the report's tables, each as CSV and as LaTeX.

python scripts/print_tables.py --tables results/tables --output results/tables
"""

from cli.command_line import CommandLine, quick_imports, run


def main() -> None:
    """Read the command line, and print the tables."""
    parser = CommandLine(__doc__)
    parser.folder("--tables", "Directory of tables (Parquet).")
    parser.new_folder("--output", "Directory for the printed tables.")
    arguments, _ = parser.read()
    with quick_imports():
        from knowshift.report.tables.catalogue import printed_tables
        from knowshift.runtime.artefacts import write_text
        from knowshift.runtime.parquet import read_frames

    for name, table in printed_tables(read_frames(arguments.tables)).items():
        write_text(arguments.output / f"{name}.csv", table.csv())
        write_text(arguments.output / f"{name}.tex", table.latex(name))


if __name__ == "__main__":
    run(main)
