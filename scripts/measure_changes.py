r"""Histogram and statistics of the changes of a region's parameters; no share to restore is needed for them.

    python scripts/measure_changes.py --base base/ --delta delta/ --region transformer \
        --histogram histogram.parquet --tensors tensors.parquet
"""

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.restoration import RegionChoice
from knowshift.configuration.section import Seeded


class Options(RegionChoice, Seeded):
    """Whose changes are measured, and the seed of the permutations that the null line takes."""


def main() -> None:
    """Read the command line, compare the weights, and write the tables."""
    parser = CommandLine(__doc__, Options)
    parser.versions()
    parser.new_file("--histogram", "Histogram to write (Parquet).")
    parser.new_file("--tensors", "Statistics per tensor to write (Parquet).")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.restoration.change_statistics import measure_changes
        from knowshift.restoration.schemas import HISTOGRAM, TENSORS
        from knowshift.runtime.parquet import write_table
        from knowshift.weights.deltas import open_versions

    versions = open_versions(arguments.base, arguments.tuned, arguments.delta)
    histogram, tensors = measure_changes(versions, options.region, arguments.threads, options.seed)
    write_table(arguments.histogram, histogram, HISTOGRAM, {"region": options.region})
    write_table(arguments.tensors, tensors, TENSORS, {"region": options.region})


if __name__ == "__main__":
    run(main)
