"""Put the paper's figures into one table, beside the models of this run that they are of.

    python scripts/tabulate_published.py --published resources/published --sources '{"NAME": "owner/name"}' \
        --output results/tables/published.parquet
"""

from pydantic import BaseModel, Field

from cli.command_line import CommandLine, run
from knowshift.analysis.published import paper_models, read_published
from knowshift.analysis.schemas import PUBLISHED
from knowshift.runtime.parquet import write_table


class Options(BaseModel):
    """The models of the experiment."""

    sources: dict[str, str | None] = Field(description="Repository on the hub of each model by name, or null.")


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--published", "directory of the published figures (CSV)")
    parser.path("--output", "table to write (Parquet)")
    arguments, options = parser.read()
    ours = paper_models(arguments.published, options.sources)
    write_table(arguments.output, read_published(arguments.published, ours), PUBLISHED)


if __name__ == "__main__":
    run(main)
