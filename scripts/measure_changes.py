"""Histogram and statistics of the relative changes of a region's parameters; knows no shares.

    python scripts/measure_changes.py --base base/ --delta delta/ --region transformer \
        --histogram histogram.parquet --tensors tensors.parquet
"""

from dataclasses import dataclass

from cli.command_line import CommandLine, option, run

from knowshift.restoration.change_statistics import measure_changes
from knowshift.restoration.schemas import HISTOGRAM, TENSORS
from knowshift.runtime.parquet import write_table
from knowshift.weights.deltas import open_versions


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
    versions = open_versions(arguments.base, arguments.tuned, arguments.delta)
    histogram, tensors = measure_changes(versions, options.region, arguments.threads)
    write_table(arguments.histogram, histogram, HISTOGRAM, {"region": options.region})
    write_table(arguments.tensors, tensors, TENSORS, {"region": options.region})


if __name__ == "__main__":
    run(main)
