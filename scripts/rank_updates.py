"""Histogram and statistics of the relative changes of a region's parameters; knows no shares.

    python scripts/rank_updates.py --base base/ --delta delta/ --region transformer \
        --histogram histogram.parquet --tensors tensors.parquet
"""

from dataclasses import dataclass

import torch

from command_line import CommandLine, option, run
from knowshift.artifacts import write_table
from knowshift.deltas import Delta
from knowshift.updates import HISTOGRAM, TENSORS, summarise


@dataclass(frozen=True)
class Options:
    region: str = option("transformer, attention, mlp, embedding or all", "transformer")


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--base", "model directory before training")
    parser.path("--delta", "delta directory")
    parser.path("--histogram", "histogram to write (Parquet)")
    parser.path("--tensors", "statistics per tensor to write (Parquet)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    arguments, options = parser.read()
    torch.set_num_threads(arguments.threads)
    delta = Delta(arguments.delta, arguments.base, arguments.threads)
    histogram, tensors = summarise(delta, options.region)
    write_table(arguments.histogram, histogram, HISTOGRAM, {"region": options.region})
    write_table(arguments.tensors, tensors, TENSORS, {"region": options.region})


if __name__ == "__main__":
    run(main)
