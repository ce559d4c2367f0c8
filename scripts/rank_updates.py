"""Histogram and statistics of the relative changes of a region's parameters; knows no shares.

    python scripts/rank_updates.py --base base/ --delta delta/ --region transformer \
        --histogram histogram.parquet --tensors tensors.parquet
"""

from dataclasses import dataclass

from command_line import CommandLine, option, run

from knowshift.change_tables import HISTOGRAM, TENSORS
from knowshift.deltas import open_pairs
from knowshift.tables import write_table
from knowshift.updates import summarise


@dataclass(frozen=True)
class Options:
    region: str = option(
        "transformer, attention, mlp, embedding, all, layers such as 0-3, or a regular expression over tensor names",
        "transformer",
    )


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.versions()
    parser.path("--histogram", "histogram to write (Parquet)")
    parser.path("--tensors", "statistics per tensor to write (Parquet)")
    arguments, options = parser.read()
    pairs = open_pairs(arguments.base, arguments.tuned, arguments.delta)
    histogram, tensors = summarise(pairs, options.region, arguments.threads)
    write_table(arguments.histogram, histogram, HISTOGRAM, {"region": options.region})
    write_table(arguments.tensors, tensors, TENSORS, {"region": options.region})


if __name__ == "__main__":
    run(main)
