"""Join the tables of all models into one table each, with a column `model`.

    python scripts/join_tables.py --folders results/a results/b --tables accuracy cells --output results/tables

It joins the tables that are named, and all tables in `analysis/`.
"""

from cli.command_line import CommandLine, quick_imports, run


def main() -> None:
    """Read the command line, join the tables and write them."""
    parser = CommandLine(__doc__)
    parser.folder("--folders", "Folders of the models, each with tables/ and analysis/.", many=True)
    parser.words("--tables", "[a-z0-9_]+", "Names of tables in tables/.")
    parser.new_folder("--output", "Directory to write to.")
    arguments, _ = parser.read()
    with quick_imports():
        from knowshift.analysis.joining import join_tables
        from knowshift.analysis.schemas import ANALYSES
        from knowshift.runtime.parquet import write_table

    for folder, names in {"tables": arguments.tables, "analysis": ANALYSES}.items():
        for name in names:
            joined = join_tables(arguments.folders, f"{folder}/{name}.parquet")
            write_table(arguments.output / f"{name}.parquet", joined, joined.schema)


if __name__ == "__main__":
    run(main)
