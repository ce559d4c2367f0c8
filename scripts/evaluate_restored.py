"""Undo a part of a fine-tuning in memory and ask the restored model the same questions.

    python scripts/evaluate_restored.py --model base/ --delta delta/ --strategy top --region transformer --percent 20 \
        --mastery mastery.parquet --order order.parquet --prompt resources/prompt.yaml \
        --output outcomes.parquet --selection selection.parquet
"""

from dataclasses import dataclass
from pathlib import Path

from cli.asking import CHUNK, Asked, AskingRun, run_questions
from cli.command_line import CommandLine, option, run

import torch

from knowshift.allowed_values import Strategy
from knowshift.models.loading import check_model
from knowshift.randomness import derive_seed
from knowshift.restoration.in_memory import load_restored
from knowshift.restoration.schemas import HISTOGRAM, SELECTION
from knowshift.runtime.device_lease import lease_device
from knowshift.runtime.parquet import read_table, write_table


@dataclass(frozen=True, kw_only=True)
class Options(AskingRun):
    percent: float = option("share of the region's parameters to restore, 0 to 100")
    strategy: Strategy = option("top (largest relative changes first), bottom, absolute or random", "top")
    region: str = option(
        "transformer, attention, mlp, embedding, all, layers such as 0-3, or a pattern of tensor names", "transformer"
    )


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--model", "model directory (the base)")
    parser.path("--delta", "delta directory")
    parser.path("--mastery", "mastery table")
    parser.path("--order", "order of training facts", required=False)
    parser.path("--prompt", "prompt template (YAML)")
    parser.add_argument("--histogram", type=Path, nargs="?", help="of the region's relative changes (measure_changes.py); saves a pass of top and bottom")  # fmt: skip
    parser.path("--output", "table of answers to write (Parquet)")
    parser.path("--selection", "table of what was restored, per tensor, to write (Parquet)")
    parser.execution(chunk=CHUNK, unit="questions")
    arguments, options = parser.read()

    questions = run_questions(arguments, options)
    check_model(arguments.model)
    about = {"strategy": options.strategy, "region": options.region, "percent": options.percent}
    histogram = read_table(arguments.histogram, HISTOGRAM) if arguments.histogram else None
    with lease_device(arguments.device, arguments.threads) as device:
        place = torch.device("cpu") if options.engine == "vllm" else device  # see open_engine
        model, selection = load_restored(
            arguments.model, arguments.delta, options.strategy, options.region, options.percent,
            derive_seed(options.seed, "restore"), options.dtype, place, arguments.threads or 1, histogram,
        )  # fmt: skip
        write_table(arguments.selection, selection, SELECTION, about)
        asked = Asked(arguments, options, lambda _: model, device)
        asked.answer(questions, arguments.output, arguments.delta, arguments.mastery, arguments.order, about=about)


if __name__ == "__main__":
    run(main)
