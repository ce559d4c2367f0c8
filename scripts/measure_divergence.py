r"""KL divergence of a fine-tuned model's next-token distribution from the pre-trained model's, on well-known facts.

    python scripts/measure_divergence.py --outcomes outcomes.parquet --base-logits logits.parquet \
        --output divergence.parquet

It compares logits that are stored already, so no model is loaded.
"""

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.evaluation import Divergence


def main() -> None:
    """Read the command line, compare the logits, and write the table."""
    parser = CommandLine(__doc__, Divergence)
    parser.file("--outcomes", "Outcomes of the fine-tuned model (Parquet).")
    parser.file("--base-logits", "First-token logits of the pre-trained model (Parquet).")
    parser.new_file("--output", "Table to write (Parquet).")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.evaluation.divergence import measure_divergence
        from knowshift.evaluation.schemas import DIVERGENCE, LEADING_LOGITS, OUTCOMES
        from knowshift.runtime.parquet import read_table, write_table

    outcomes = read_table(arguments.outcomes, OUTCOMES)
    table = measure_divergence(outcomes, read_table(arguments.base_logits, LEADING_LOGITS), options.top_tokens)
    write_table(arguments.output, table, DIVERGENCE, {"top_tokens": options.top_tokens})


if __name__ == "__main__":
    run(main)
