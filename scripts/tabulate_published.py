"""Put the numbers that the paper publishes into one table, with the model of this run that each belongs to.

    python scripts/tabulate_published.py --published resources/published --sources '{"NAME": "owner/name"}' \
        --output results/tables/published.parquet
"""

from dataclasses import dataclass

from cli.command_line import CommandLine, option, run

from knowshift.analysis.published import paper_models, read_published
from knowshift.analysis.schemas import PUBLISHED
from knowshift.runtime.parquet import write_table


@dataclass(frozen=True)
class Options:
    """Options that change the result."""

    sources: dict = option("name of each model and its repository on the hub, or null, as JSON")


def main() -> None:
    """Read the command line, collect the published numbers and write them."""
    parser = CommandLine(__doc__, Options)
    parser.path("--published", "directory of the published figures (CSV)")
    parser.path("--output", "table to write (Parquet)")
    arguments, options = parser.read()
    ours = paper_models(arguments.published, options.sources)
    write_table(arguments.output, read_published(arguments.published, ours), PUBLISHED)


if __name__ == "__main__":
    run(main)
