"""Which parameters a restoration would put back, for many shares at once: thresholds, and counts per tensor.

    python scripts/select_updates.py --base base/ --tuned checkpoint/ --percents '[1, 3, 5, 10, 20, 40, 60]' \
        --output selections.parquet

No model is run or written. `evaluate_restored.py` asks a restored model, `export_model.py` writes one.
"""

from dataclasses import asdict, dataclass

from cli.command_line import CommandLine, option, run

import pyarrow as pa

from knowshift.allowed_values import Strategy
from knowshift.randomness import derive_seed
from knowshift.restoration.schemas import SELECTIONS
from knowshift.restoration.selection import select
from knowshift.runtime.parquet import write_table
from knowshift.weights.deltas import open_versions


@dataclass(frozen=True)
class Options:
    percents: list = option("shares of the region's parameters, 0 to 100, as JSON", [1, 3, 5, 10, 20, 40, 60])
    strategy: Strategy = option("top (largest relative changes first), bottom, random, or absolute changes", "top")
    region: str = option(
        "transformer, attention, mlp, embedding, all, layers such as 0-3, or a regular expression over tensor names",
        "transformer",
    )
    seed: int = option("the experiment's seed", 1)


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.versions()
    parser.path("--output", "table to write (Parquet), a row per share and tensor")
    arguments, options = parser.read()
    versions = open_versions(arguments.base, arguments.tuned, arguments.delta)
    seed = derive_seed(options.seed, "restore")
    found = select(versions, options.strategy, options.region, options.percents, seed, arguments.threads)
    tables = []
    for one in found:
        size = one.tensors.num_rows
        first = [pa.repeat(pa.scalar(value, pa.float64()), size) for value in (one.percent, one.threshold)]
        tables.append(pa.table([*first, *one.tensors.columns], schema=SELECTIONS))
    write_table(arguments.output, pa.concat_tables(tables), SELECTIONS, asdict(options))


if __name__ == "__main__":
    run(main)
