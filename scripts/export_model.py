"""Write a restored model as a Hugging Face directory that transformers loads.

    python scripts/export_model.py --base base/ --delta delta/ --strategy top --region transformer --percent 20 \
        --output restored/
    python scripts/export_model.py --base base/ --tuned checkpoint/ --percent 20 --output restored/
"""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.compute as pc

from command_line import CommandLine, option, run
from knowshift.artifacts import whole_directory
from knowshift.deltas import diff_weights
from knowshift.models import load_tokenizer
from knowshift.randomness import derive_seed
from knowshift.restored import load_restored

CARD = """---
library_name: transformers
tags: [knowshift]
---
# {name}

A fine-tuned model of which a part of the update was undone with knowshift: of the region `{region}`, the {percent} % of
parameters chosen by the strategy `{strategy}` ({restored:,} of {parameters:,}) have their values from before fine-tuning
again. `selection.json` lists how many in each tensor. The method is that of Ye et al., EMNLP 2025 (arXiv:2509.16596).
"""


@dataclass(frozen=True)
class Options:
    percent: float = option("share of the region's parameters to restore, 0 to 100")
    strategy: str = option("top (largest relative changes first), bottom or random", "top")
    region: str = option("transformer, attention, mlp, embedding or all", "transformer")
    seed: int = option("the experiment's seed", 1)


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--base", "model directory before training")
    parser.path("--delta", "delta directory", required=False)
    parser.path("--tuned", "model directory after training, instead of --delta", required=False)
    parser.path("--output", "model directory to write")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    arguments, options = parser.read()
    if (arguments.delta is None) == (arguments.tuned is None):
        parser.error("give either --delta or --tuned")

    with tempfile.TemporaryDirectory() as temporary:
        delta = arguments.delta
        if delta is None:
            delta = Path(temporary) / "delta"
            facts: dict = {"kind": "delta"}
            with whole_directory(delta, facts) as directory:
                facts |= diff_weights(arguments.base, arguments.tuned, directory, arguments.threads)
        seed = derive_seed(options.seed, "restore")
        model, selection = load_restored(
            arguments.base, delta, options.strategy, options.region, options.percent, seed, "float32", "cpu",
            arguments.threads,
        )  # fmt: skip
    parameters, restored = (pc.sum(selection[name]).as_py() for name in ("parameters", "restored"))
    with whole_directory(arguments.output, {"kind": "model", "restored": asdict(options)}) as directory:
        model.save_pretrained(directory)
        load_tokenizer(arguments.base).save_pretrained(directory)
        tensors = dict(zip(selection["tensor"].to_pylist(), selection["restored"].to_pylist(), strict=True))
        report = {**asdict(options), "n": parameters, "k_count": restored, "restored_per_tensor": tensors}
        (directory / "selection.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        card = CARD.format(name=arguments.output.name, restored=restored, parameters=parameters, **asdict(options))
        (directory / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    run(main)
