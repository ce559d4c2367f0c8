r"""Undo a part of a fine-tuning in memory and ask the restored model the same questions.

    python scripts/evaluate_restored.py --model base/ --delta delta/ --strategy top --region transformer --percent 20 \
        --mastery mastery.parquet --order order.parquet --prompt resources/prompt.yaml \
        --output outcomes.parquet --selection selection.parquet
"""

from pathlib import Path

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.restoration import RestoredShare, Selecting
from knowshift.evaluation.options import QUESTIONS_PER_CHUNK, RunOptions


class Options(RunOptions, Selecting, RestoredShare):
    """What is restored, and what the restored model is asked."""


def main() -> None:
    """Read the command line, restore, ask, and write the tables."""
    parser = CommandLine(__doc__, Options)
    parser.path("--model", "Model directory (the base).")
    parser.path("--delta", "Delta directory of the fine-tuned model.")
    parser.path("--mastery", "Mastery table (Parquet).")
    parser.path("--order", "Order of training facts (Parquet).", required=False)
    parser.path("--prompt", "Prompt template (YAML).")
    parser.add_argument(
        "--histogram",
        type=Path,
        nargs="?",
        help="Histogram of the region's relative changes, of measure_changes.py; saves a pass over the weights with "
        "the strategies top and bottom.",
    )
    parser.path("--output", "Table of answers to write (Parquet).")
    parser.path("--selection", "Table of what was restored, per tensor, to write (Parquet).")
    parser.execution(chunk=QUESTIONS_PER_CHUNK, unit="questions")
    arguments, options = parser.read()
    with quick_imports():
        import torch

        from cli.asking import AskedModel, read_run_questions
        from knowshift.models.loading import check_model
        from knowshift.randomness import derive_seed
        from knowshift.restoration.in_memory import load_restored
        from knowshift.restoration.schemas import HISTOGRAM, SELECTION
        from knowshift.runtime.device_lease import lease_device
        from knowshift.runtime.parquet import read_table, write_table

    questions = read_run_questions(arguments, options)
    check_model(arguments.model)
    about = {"strategy": options.strategy, "region": options.region, "percent": options.percent}
    histogram = read_table(arguments.histogram, HISTOGRAM) if arguments.histogram else None
    with lease_device(arguments.device, arguments.threads) as device:
        model, selection = load_restored(
            arguments.model,
            arguments.delta,
            options.strategy,
            options.region,
            options.percent,
            derive_seed(options.seed, "restore"),
            options.dtype,
            torch.device("cpu") if options.engine == "vllm" else device,  # see open_engine
            arguments.threads or 1,
            histogram,
        )
        write_table(arguments.selection, selection, SELECTION, about)
        asked = AskedModel(arguments, options, lambda _: model, device)
        asked.answer(questions, arguments.output, arguments.delta, arguments.mastery, arguments.order, about=about)


if __name__ == "__main__":
    run(main)
