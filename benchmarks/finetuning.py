"""Tokens per second of fine-tuning, against TRL's SFTTrainer.

    python benchmarks/finetuning.py --model results/smollm2-135m/base

Both train the same model in float32 on the same questions and answers of the default facts: same prompt, loss on the
answers only, batches of 8, AdamW, cosine schedule, one pass. Timed is the loop alone, in turns, with the model loaded
anew each time; medians are shown. A token is one that the model must read: padding does not count. The losses of the
first and the last steps are shown, since both start from the same weights: the two draw their batches in different
orders.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measuring import alone, machine, median, show

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

from knowshift.configuration.finetuning import Recipe  # noqa: E402
from knowshift.facts.templates import read_prompt_template  # noqa: E402
from knowshift.finetuning.loop import adamw, train  # noqa: E402
from knowshift.models.loading import load_model, load_tokenizer  # noqa: E402
from knowshift.models.tokenizing import encode_examples  # noqa: E402

RECIPE = Recipe(learning_rate=1e-5)
Losses = tuple[float, float]  # of the first and of the last steps
Measured = tuple[float, Losses, int]  # seconds, first and last losses, tokens


def read_rows(number: int) -> list[dict]:
    """Prompts and completions of real questions, drawn by a fixed seed."""
    files = sorted((ROOT / "resources/facts/train").glob("*.json"))
    raw = [row for path in files for row in json.loads(path.read_text(encoding="utf-8"))]
    template = read_prompt_template(ROOT / "resources/prompt.yaml")
    return [
        {"prompt": template.ask(row["question"]), "completion": template.reply(row["answers"][0])}
        for row in random.Random(1).sample(raw, number)
    ]


def ours(model_path: Path, rows: list[dict]) -> Measured:
    """Seconds, losses and tokens of this repository's loop."""
    model, tokenizer = load_model(model_path, "float32"), load_tokenizer(model_path)
    examples = encode_examples(tokenizer, [row["prompt"] for row in rows], [row["completion"] for row in rows])
    start = time.perf_counter()
    losses = [row["loss"] for row in train(model, adamw(model, RECIPE), examples, RECIPE, 1)]
    return time.perf_counter() - start, (losses[0], losses[-1]), sum(len(ids) for ids, _ in examples)


def theirs(model_path: Path, rows: list[dict]) -> Measured:
    """Seconds, losses and tokens of SFTTrainer's."""
    model, tokenizer = load_model(model_path, "float32"), load_tokenizer(model_path)
    rows = [{**row, "prompt": (tokenizer.bos_token or "") + row["prompt"]} for row in rows]  # it puts none there itself
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=8,
            learning_rate=RECIPE.learning_rate,
            num_train_epochs=1,
            lr_scheduler_type="cosine",
            optim="adamw_torch_fused",
            weight_decay=0.0,
            max_grad_norm=1.0,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            logging_steps=1,
            disable_tqdm=True,
            dataset_num_proc=1,
            max_length=256,
        )
        trainer = SFTTrainer(model, settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        tokens = sum(map(len, trainer.train_dataset["input_ids"]))
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return seconds, (losses[0], losses[-1]), tokens


def main() -> None:
    """Read the command line, measure, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=120)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--lock", type=Path, help="lock file to hold while something is timed")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = read_rows(arguments.examples)
    contenders: dict[str, Callable[[Path, list[dict]], Measured]] = {"knowshift": ours, "TRL SFTTrainer": theirs}
    measured: dict[str, list[Measured]] = {name: [] for name in contenders}
    with alone(arguments.lock):
        for _ in range(arguments.runs):
            for name, run in contenders.items():
                measured[name].append(run(arguments.model, rows))
    base = median([seconds for seconds, _, _ in measured["TRL SFTTrainer"]])
    table = []
    for name, runs in measured.items():
        seconds = median([seconds for seconds, _, _ in runs])
        _, (first, last), tokens = runs[0]
        speed = {"tokens": tokens, "tokens/s": tokens / seconds, "ratio": base / seconds}
        table.append({"loop": name, **speed, "first loss": first, "last loss": last})
    about = f"{arguments.examples} examples in batches of 8, float32, {arguments.threads} threads"
    about += f", median of {arguments.runs} runs in turns. {machine('torch', 'transformers', 'trl')}."
    show("finetuning", table, about)


if __name__ == "__main__":
    main()
