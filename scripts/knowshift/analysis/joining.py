"""One table of several models."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from knowshift.runtime.parquet import read_table


def join_tables(folders: Sequence[Path], name: str) -> pa.Table:
    """Put one table of every model below one another, with the model in a first column `model`.

    Args:
        folders: The models' folders of results, named as the models are.
        name: The path of the table in a model's folder.
    """
    parts = []
    for folder in folders:
        table = read_table(folder / name)
        model = pa.array([folder.name] * len(table), pa.string())
        parts.append(table.add_column(0, pa.field("model", pa.string(), False), model).replace_schema_metadata(None))
    return pa.concat_tables(parts)
