r"""Sample completions of facts from a pre-trained model, to measure how well it knows them.

    python scripts/probe_mastery.py --model base/ --facts facts.parquet --templates resources/templates \
        --output completions.parquet

The facts are a table that build_facts.py makes; templates are a TOPIC.yaml, or a folder of them. Completions are stored
whole; whether they hold the object is decided later (grade_mastery.py). An interrupted job goes on from its last
finished chunk.
"""

from cli.command_line import CommandLine, quick_imports, run
from knowshift.mastery.options import COMPLETIONS_PER_CHUNK, ProbingOptions


def main() -> None:
    """Read the command line, sample, and write the table."""
    parser = CommandLine(__doc__, ProbingOptions, flags={"templates": "--templates-used"})
    parser.folder("--model", "Model directory.")
    parser.file("--facts", "Facts table (Parquet).")
    parser.path("--templates", "The topic's templates (TOPIC.yaml), or a folder of them.")
    parser.new_file("--output", "Completions table to write (Parquet).")
    parser.execution(COMPLETIONS_PER_CHUNK)
    arguments, options = parser.read()
    with quick_imports():
        from cli.probing import probe_facts

    probe_facts(arguments, options)


if __name__ == "__main__":
    run(main)
