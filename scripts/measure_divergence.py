"""KL divergence of a fine-tuned model's next-token distribution from the pre-trained model's, on well-known facts.

    python scripts/measure_divergence.py --outcomes outcomes.parquet --base-logits logits.parquet --output divergence.parquet

A join of stored logits; no model is loaded.
"""

from dataclasses import dataclass

from cli.command_line import CommandLine, option, run

from knowshift.evaluation.divergence import measure_divergence
from knowshift.evaluation.schemas import DIVERGENCE, LEADING_LOGITS, OUTCOMES
from knowshift.runtime.parquet import read_table, write_table


@dataclass(frozen=True)
class Options:
    top_tokens: int = option("how many of the fine-tuned model's highest logits are compared", 10)


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--outcomes", "the fine-tuned model's outcomes")
    parser.path("--base-logits", "the pre-trained model's first-token logits")
    parser.path("--output", "table to write (Parquet)")
    arguments, options = parser.read()
    outcomes = read_table(arguments.outcomes, OUTCOMES)
    table = measure_divergence(outcomes, read_table(arguments.base_logits, LEADING_LOGITS), options.top_tokens)
    write_table(arguments.output, table, DIVERGENCE, {"top_tokens": options.top_tokens})


if __name__ == "__main__":
    run(main)
