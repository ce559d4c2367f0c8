"""Join the tables of all models into one table each, with a column `model`.

python scripts/join_tables.py --models results/a/tables results/b/tables --output results/tables
"""

import pyarrow as pa
import pyarrow.parquet as pq

from command_line import CommandLine, run
from knowshift.artifacts import write_table


def main() -> None:
    parser = CommandLine(__doc__)
    parser.path("--models", "table directories; the model's name is the folder above", many=True)
    parser.path("--output", "directory to write to")
    arguments, _ = parser.read()
    for path in sorted(arguments.models[0].glob("*.parquet")):
        parts = []
        for directory in arguments.models:
            table = pq.read_table(directory / path.name)
            name = pa.array([directory.parent.name] * len(table), pa.string())
            parts.append(table.add_column(0, pa.field("model", pa.string(), False), name).replace_schema_metadata(None))
        joined = pa.concat_tables(parts)
        write_table(arguments.output / path.name, joined, joined.schema)


if __name__ == "__main__":
    run(main)
