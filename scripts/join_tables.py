"""Join the tables of all models into one table each, with a column `model`.

    python scripts/join_tables.py --folders results/a results/b --tables accuracy cells --output results/tables

Joined are the tables named, and all in `analysis/`.
"""

from cli.command_line import CommandLine, run

import pyarrow as pa

from knowshift.analysis.schemas import ANALYSES
from knowshift.runtime.parquet import read_table, write_table


def main() -> None:
    parser = CommandLine(__doc__)
    parser.path("--folders", "folders of the models, each with tables/ and analysis/", many=True)
    parser.add_argument("--tables", nargs="+", required=True, help="names of tables in tables/")
    parser.path("--output", "directory to write to")
    arguments, _ = parser.read()
    paths = [f"tables/{name}" for name in arguments.tables] + [f"analysis/{name}" for name in ANALYSES]
    for path in paths:
        parts = []
        for folder in arguments.folders:
            table = read_table(folder / f"{path}.parquet")
            name = pa.array([folder.name] * len(table), pa.string())
            parts.append(table.add_column(0, pa.field("model", pa.string(), False), name).replace_schema_metadata(None))
        joined = pa.concat_tables(parts)
        write_table(arguments.output / f"{path.partition('/')[2]}.parquet", joined, joined.schema)


if __name__ == "__main__":
    run(main)
