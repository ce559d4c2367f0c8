r"""Put the numbers that the paper publishes into one table, with the model of this run that each belongs to.

    python scripts/tabulate_published.py --published resources/published --sources '{"NAME": "owner/name"}' \
        --output results/tables/published.parquet
"""

from pydantic import Field

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.section import Section


class Options(Section):
    """The models of the experiment."""

    sources: dict[str, str | None] = Field(description="Repository on the hub of each model by name, or null.")


def main() -> None:
    """Read the command line, collect the published numbers and write them."""
    parser = CommandLine(__doc__, Options)
    parser.folder("--published", "Directory of the published figures (CSV).")
    parser.new_file("--output", "Table to write (Parquet).")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.analysis.published import paper_models, read_published
        from knowshift.analysis.schemas import PUBLISHED
        from knowshift.runtime.parquet import write_table

    ours = paper_models(arguments.published, options.sources)
    write_table(arguments.output, read_published(arguments.published, ours), PUBLISHED)


if __name__ == "__main__":
    run(main)
