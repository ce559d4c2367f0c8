r"""Which parameters a restoration would put back, for many shares at once: thresholds, and counts per tensor.

    python scripts/select_updates.py --base base/ --tuned checkpoint/ --percents '[1, 3, 5, 10, 20, 40, 60]' \
        --output selections.parquet

No model is run or written. `evaluate_restored.py` asks a restored model, `export_model.py` writes one.
"""

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.restoration import RestoredShares, Selecting
from knowshift.configuration.section import Seeded


class Options(Seeded, Selecting, RestoredShares):
    """Which parameters are selected."""


def main() -> None:
    """Read the command line, select, and write the table."""
    parser = CommandLine(__doc__, Options)
    parser.versions()
    parser.others()
    parser.new_file("--output", "Table to write (Parquet), a row per share and tensor.")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.randomness import derive_seed
        from knowshift.restoration.schemas import SELECTIONS
        from knowshift.restoration.strategies import tabulate_undoings, undo
        from knowshift.runtime.parquet import write_table
        from knowshift.weights.deltas import open_others, open_versions

    versions = open_versions(arguments.base, arguments.tuned, arguments.delta)
    seed = derive_seed(options.seed, "restore")
    beside = open_others(arguments.base, arguments.others or [])
    chosen = (options.strategy, options.region, options.percents, seed, arguments.threads)
    undoings = undo(versions, *chosen, others=beside)
    write_table(arguments.output, tabulate_undoings(undoings), SELECTIONS, options.model_dump())


if __name__ == "__main__":
    run(main)
