"""List the numbers of facts and of dropped rows of every topic, from the metadata of the facts tables.

python scripts/tabulate_facts.py --facts facts/*.parquet --output tables/facts.parquet
"""

from cli.command_line import CommandLine, quick_imports, run


def main() -> None:
    """Read the command line, collect the counts and write them."""
    parser = CommandLine(__doc__)
    parser.file("--facts", "Facts tables.", many=True)
    parser.new_file("--output", "Table to write (Parquet).")
    arguments, _ = parser.read()
    with quick_imports():
        import pyarrow as pa

        from knowshift.facts.schemas import FACT_COUNTS, FACTS
        from knowshift.runtime.parquet import read_table, table_metadata, write_table

    rows = [table_metadata(read_table(path, FACTS)) for path in arguments.facts]
    write_table(arguments.output, pa.Table.from_pylist(rows, schema=FACT_COUNTS), FACT_COUNTS)


if __name__ == "__main__":
    run(main)
